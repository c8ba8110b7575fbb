"""The bundle in force, as the topic tells it."""

from collections.abc import Callable

from schemas.bundle import InvalidBundleError
from schemas.events import BundlePublished
from services.governance.handlers import Rules
from services.runtime import telemetry
from services.runtime.bundles import NOTHING_PUBLISHED, bundle_of
from services.runtime.embeddings import Space
from services.runtime.errors import Fatal, Rejected, Retryable


class RulesInForce:
    """The rules of the newest bundle that could be used."""

    def __init__(self, space: Callable[[], Space]) -> None:
        self._space = space
        self._rules: Rules | None = None

    def take(self, published: BundlePublished) -> None:
        """Put a bundle in force, at once and whole.

        Raises:
            Rejected: It cannot be used; the one before it stays in force.
        """
        try:
            rules = Rules(published.version, bundle_of(published), self._space)
        except (InvalidBundleError, Fatal) as error:  # Fatal: the models that it needs are not there
            raise Rejected(f"bundle {published.version} cannot be used: {error}") from error
        self._rules = rules
        telemetry.log().info("bundle in force", version=rules.version)

    def now(self) -> Rules:
        """Return the rules in force.

        Raises:
            Retryable: There are none yet.
        """
        if self._rules is None:
            raise Retryable(NOTHING_PUBLISHED)
        return self._rules
