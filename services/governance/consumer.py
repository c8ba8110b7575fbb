"""Governance's Kafka edge: the bundle in force."""

from pydantic import ValidationError

from schemas.bundle import Bundle, InvalidBundleError
from schemas.events import BundlePublished
from services.governance.handlers import Rules
from services.runtime import telemetry
from services.runtime.errors import Rejected, Retryable


class RulesInForce:
    """The rules of the newest bundle that could be used."""

    def __init__(self) -> None:
        self._rules: Rules | None = None

    def take(self, published: BundlePublished) -> None:
        """Put a bundle in force, at once and whole.

        Raises:
            Rejected: It cannot be used; the one before it stays in force.
        """
        try:
            rules = Rules(published.version, Bundle.model_validate_json(published.content))
        except InvalidBundleError as error:
            raise Rejected(f"bundle {published.version} cannot be used: {error}") from error
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            field = ".".join(map(str, first["loc"]))
            raise Rejected(f"bundle {published.version} cannot be used: {field}: {first['msg']}") from error
        self._rules = rules
        telemetry.log().info("bundle in force", version=rules.version)

    def now(self) -> Rules:
        """Return the rules in force.

        Raises:
            Retryable: There are none yet.
        """
        if self._rules is None:
            raise Retryable("no bundle has been published: gyre policy push")
        return self._rules
