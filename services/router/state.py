"""The present catalogue, kept up to date by what Kafka tells."""

from collections.abc import Callable
from dataclasses import replace

from schemas.events import BundlePublished, Deployment
from services.router.domain.catalogue import Catalogue
from services.router.domain.tasks import TaskClassifier
from services.router.experience import Experience
from services.runtime.bundles import NOTHING_PUBLISHED, bundle_of
from services.runtime.embeddings import Space
from services.runtime.errors import Fatal, Rejected, Retryable


class Directory:
    """Holds one catalogue at a time and swaps it whole, so that a request never sees half of a change."""

    def __init__(self, space: Callable[[], Space], experience: Experience) -> None:
        self._space = space
        self._experience = experience
        self._deployments: dict[tuple[str, str], Deployment] = {}
        self._catalogue: Catalogue | None = None

    def catalogue(self) -> Catalogue:
        """Return the present state.

        Raises:
            Retryable: No bundle has been published yet.
        """
        if self._catalogue is None:
            raise Retryable(NOTHING_PUBLISHED)
        return self._catalogue

    def take_bundle(self, published: BundlePublished) -> None:
        """Take in a bundle.

        Raises:
            Rejected: It is none, or the models that it needs are not there; what was there stays.
        """
        bundle = bundle_of(published)
        try:
            tasks = TaskClassifier(bundle, self._space)
            if any(bundle.routing_of(task).bar for task in bundle.tasks):
                self._experience.listen()
        except Fatal as error:
            raise Rejected(f"bundle {published.version} cannot be used: {error}") from error
        self._catalogue = Catalogue(bundle, published.version, tasks, self._deployments)

    def take_deployment(self, deployment: Deployment) -> None:
        """Take in what is wanted live for a task, and what its gate found."""
        self._experience.take_deployment(deployment)
        self._deployments = {**self._deployments, (deployment.tenant, deployment.task): deployment}
        if self._catalogue is not None:
            self._catalogue = replace(self._catalogue, deployments=self._deployments)
