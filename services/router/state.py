"""The present catalogue, kept up to date by what Kafka tells."""

from schemas.events import BundlePublished, Deployment
from services.router.domain.catalogue import Catalogue
from services.runtime.bundles import NOTHING_PUBLISHED, bundle_of
from services.runtime.errors import Retryable


class Directory:
    """Holds one catalogue at a time and swaps it whole, so that a request never sees half of a change."""

    def __init__(self) -> None:
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
            Rejected: It is none; what was there stays.
        """
        self._catalogue = Catalogue(bundle_of(published), published.version, self._deployments)

    def take_deployment(self, deployment: Deployment) -> None:
        """Take in what is wanted live for a task."""
        self._deployments = {**self._deployments, (deployment.tenant, deployment.task): deployment}
        if self._catalogue is not None:
            self._catalogue = Catalogue(self._catalogue.bundle, self._catalogue.version, self._deployments)
