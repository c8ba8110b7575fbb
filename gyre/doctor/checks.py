"""What a check is, and how checks are run so that a cause is told and what follows from it is not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from services.runtime.errors import ServiceError

if TYPE_CHECKING:
    from gyre.doctor.installation import Installation


class Severity(StrEnum):
    """An error keeps something from working; a warning will, or is worth knowing."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class Finding:
    """Something that is wrong.

    Attributes:
        severity: How wrong.
        cause: What is wrong, in one sentence.
        remedy: What to do, in one sentence, with the command.
        breaks: Checks that have nothing to look at while this is so.
    """

    severity: Severity
    cause: str
    remedy: str
    breaks: tuple[str, ...] = ()


def error(cause: str, remedy: str, *breaks: str) -> Finding:
    """Return an error."""
    return Finding(Severity.ERROR, cause, remedy, breaks)


def warning(cause: str, remedy: str, *breaks: str) -> Finding:
    """Return a warning."""
    return Finding(Severity.WARNING, cause, remedy, breaks)


@dataclass(frozen=True)
class Check:
    """One question, asked by `probe`, which does all the input and output, and answered by `judge`, which does none.

    Attributes:
        name: Unique.
        question: What is looked at, as a sentence without its question mark that is true where all is well.
        probe: Returns facts; None where the installation has nothing of the kind.
        judge: Makes findings of the installation and the facts.
        after: Checks that must have found no error: what this one would find then would only follow from it.
    """

    name: str
    question: str
    probe: Callable[[Installation], Awaitable[Any]]
    judge: Callable[[Installation, Any], Iterable[Finding]]
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """What came of a check.

    Attributes:
        check: Which.
        findings: What is wrong; none where all is well, or where it was not looked.
        skipped: Why it was not looked; empty where it was.
    """

    check: Check
    findings: Sequence[Finding] = ()
    skipped: str = ""


NOTHING_THERE = "there is nothing of the kind here"


async def diagnose(
    installation: Installation, checks: Collection[Check], begun: Callable[[Check], None] = lambda _check: None
) -> list[Result]:
    """Run checks in their order, and return what came of each.

    Args:
        installation: What is looked at.
        checks: Each behind those that it comes after.
        begun: Told each check that is looked at.
    """
    # What has nothing to look at, with the check that found out.
    broken: dict[str, str] = {}
    results = []
    for check in checks:
        because = next((broken[each] for each in (check.name, *check.after) if each in broken), "")
        if because:
            broken.setdefault(check.name, because)
            results.append(Result(check, skipped=f"{because} is to be mended first"))
            continue
        begun(check)
        result = await _result(check, installation)
        results.append(result)
        if any(each.severity is Severity.ERROR for each in result.findings):
            broken.setdefault(check.name, check.name)
        for name in (name for each in result.findings for name in each.breaks):
            broken.setdefault(name, check.name)
    return results


async def _result(check: Check, installation: Installation) -> Result:
    try:
        facts = await check.probe(installation)
    except (ServiceError, OSError, TimeoutError) as failure:
        # What was asked had answered to the checks before.
        why = str(failure) or type(failure).__name__
        return Result(check, [error(f"It could not be looked at: {why}", "Run gyre doctor again.")])
    if facts is None:
        return Result(check, skipped=NOTHING_THERE)
    return Result(check, list(check.judge(installation, facts)))
