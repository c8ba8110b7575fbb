"""Governance's use cases."""

import traceback
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from schemas.bundle import DEFAULT, Application, Bundle, Direction, InvalidBundleError
from schemas.events import Sensitivity
from services.governance.domain.clearance import Clearance, Clearances
from services.governance.domain.formats import KIND as FORMAT
from services.governance.domain.guardrails import NOTHING_ASKED, Asked, Guardrails, Screened, Verdict, refused
from services.governance.domain.names import KIND as NAME
from services.runtime import telemetry
from services.runtime.clock import Clock
from services.runtime.embeddings import Space
from services.runtime.errors import InvalidArgument, NotFound

FAILED = "failed"


class Rules:
    """A bundle, compiled: what every decision is made by."""

    def __init__(self, version: str, bundle: Bundle, space: Callable[[], Space] | None) -> None:
        """Compile a bundle.

        Args:
            version: Its own.
            bundle: What the operator decided.
            space: Where texts lie, for bundles with topics; None to see whether a bundle is in order.

        Raises:
            InvalidBundleError: Its guardrails or policies cannot be used.
        """
        self.version = version
        self.bundle = bundle
        has_topics = any("topic" in each.detect for guardrails in bundle.guardrails.values() for each in guardrails)
        topics = space() if space is not None and has_topics else None
        self._guardrails = {
            (tenant, direction): _compiled(bundle, tenant, direction, topics)
            for tenant in bundle.guardrails
            for direction in get_args(Direction)
        }
        self.clearances = Clearances(bundle)

    def guardrails(self, tenant: str, direction: Direction) -> Guardrails:
        """Return a tenant's guardrails on what comes in or what goes out."""
        return self._guardrails.get((tenant, direction)) or self._guardrails[DEFAULT, direction]

    def reads_slowly(self, tenant: str, direction: Direction) -> bool:
        """Return whether a tenant's guardrails take long even for short texts."""
        return any(NAME in each.detect for each in self.bundle.guardrails_of(tenant, direction))

    def tenant(self, application: str) -> str:
        """Return the tenant of an application; of one that there is not, none."""
        found = self.bundle.applications.get(application)
        return found.tenant if found else ""

    def application(self, name: str, task: str) -> Application:
        """Return an application that may ask for a task.

        Raises:
            NotFound: The bundle has no such application.
            InvalidArgument: The application has no such task.
        """
        application = self.bundle.applications.get(name)
        if application is None:
            raise NotFound(f"application: {name!r} is not in bundle {self.version}")
        if task not in application.tasks:
            raise InvalidArgument(f"task: must be one of {', '.join(application.tasks)}, is {task!r}")
        return application


@dataclass(frozen=True)
class Checked:
    """What is decided about a request.

    Attributes:
        screened: What became of its texts.
        sensitivity: Of the request: its application's, or higher when a guardrail that found something says so.
        clearances: The models that may see it, at this sensitivity and at each level above.
        policy_us: Microseconds spent on policy.
    """

    screened: Screened
    sensitivity: Sensitivity
    clearances: Sequence[Clearance]
    policy_us: int


def check_input(
    rules: Rules, application: str, task: str, texts: Sequence[str], instructions: Collection[int], clock: Clock
) -> Checked:
    """Decide about a request's texts, of which some are what the application itself tells the model, by position.

    Raises:
        NotFound: The application is unknown.
        InvalidArgument: The application may not ask for the task.
    """
    caller = rules.application(application, task)
    screened = _screen(rules.guardrails(caller.tenant, "input"), texts, instructions)
    sensitivity = max(caller.sensitivity, screened.sensitivity or caller.sensitivity, key=lambda each: each.level)
    started = clock.monotonic()
    clearances = rules.clearances.from_level(application, task, sensitivity)
    return Checked(screened, sensitivity, clearances, round((clock.monotonic() - started) * 1e6))


def check_output(rules: Rules, application: str, task: str, text: str, asked: Asked) -> Screened:
    """Decide about an answer's text, or a part of it. Of a refused one, nothing is left.

    Raises:
        NotFound: The application is unknown.
        InvalidArgument: The application may not ask for the task.
    """
    guardrails = rules.guardrails(rules.application(application, task).tenant, "output")
    screened = _screen(guardrails, [text], asked=asked)
    if screened.verdict is Verdict.MASK and asked.schema:
        # What is masked must still have the form that was wanted.
        masked = _screen(guardrails, screened.texts, asked=asked)
        screened = replace(screened, findings=(*screened.findings, *masked.of_kind(FORMAT)))
    return _without_refused(screened)


def check_document(rules: Rules, tenant: str, title: str, text: str) -> Screened:
    """Decide about a document's title and text. Of a refused one, nothing is left.

    Raises:
        NotFound: The tenant is unknown.
    """
    if tenant not in rules.bundle.tenants:
        raise NotFound(f"tenant: {tenant!r} is not in bundle {rules.version}")
    return _without_refused(_screen(rules.guardrails(tenant, "document"), [title, text]))


def _without_refused(screened: Screened) -> Screened:
    """Leave nothing of texts that are refused."""
    if screened.verdict is not Verdict.REFUSE:
        return screened
    return replace(screened, texts=("",) * len(screened.texts), masks=())


def _compiled(bundle: Bundle, tenant: str, direction: Direction, space: Space | None) -> Guardrails:
    try:
        return Guardrails(bundle.guardrails_of(tenant, direction), space)
    except InvalidBundleError as error:
        raise InvalidBundleError(f"guardrails.{tenant}: {error}") from error


def _screen(
    guardrails: Guardrails, texts: Sequence[str], instructions: Collection[int] = (), asked: Asked = NOTHING_ASKED
) -> Screened:
    try:
        return guardrails.screen(texts, instructions, asked)
    except Exception as error:
        # Whatever went wrong, a text that nobody could read must not pass. The message and the values of the traceback
        # may hold the text; the places in the code do not.
        places = [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
        telemetry.log().error("detector failed", error=type(error).__name__, at=places)
        return refused(texts, FAILED)
