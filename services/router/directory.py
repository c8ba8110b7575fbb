"""The present catalogue, kept up to date by what Kafka tells."""

from pydantic import ValidationError

from schemas.bundle import Bundle
from schemas.events import BundlePublished, Deployment
from services.router.domain.catalogue import Catalogue
from services.runtime.errors import Rejected, Retryable


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
            raise Retryable("no bundle has been published yet: `gyre policy push` does that")
        return self._catalogue

    def take_bundle(self, published: BundlePublished) -> None:
        """Take in a bundle.

        Raises:
            Rejected: It is none; what was there stays.
        """
        try:
            bundle = Bundle.model_validate_json(published.content)
        except ValidationError as error:
            raise Rejected(f"bundle {published.version} is not valid: {error}") from error
        self._catalogue = Catalogue(bundle, published.version, self._deployments)

    def take_deployment(self, deployment: Deployment) -> None:
        """Take in what is wanted live for a task."""
        self._deployments = {**self._deployments, (deployment.tenant, deployment.task): deployment}
        if self._catalogue is not None:
            self._catalogue = Catalogue(self._catalogue.bundle, self._catalogue.version, self._deployments)
