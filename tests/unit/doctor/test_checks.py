"""Which checks are run, and that a cause hides what follows from it."""

from pathlib import Path
from typing import Any

from pydantic import SecretStr

from gyre.doctor.checks import Check, Finding, diagnose, error, warning
from gyre.doctor.everything import CHECKS
from gyre.doctor.installation import Installation
from services.audit.settings import Settings as AuditSettings
from services.runtime.errors import Retryable
from services.runtime.settings import ClickHouseSettings, KafkaSettings, UpstreamSettings

HERE = Installation(KafkaSettings(), ClickHouseSettings(), UpstreamSettings(), AuditSettings())
DOC = Path(__file__).parents[3] / "docs" / "doctor.md"


def check(name: str, *findings: Finding, after: tuple[str, ...] = (), facts: Any = "facts") -> Check:
    async def probe(_at: Installation) -> Any:
        if isinstance(facts, Exception):
            raise facts
        return facts

    return Check(name, f"{name} is well", probe, lambda _at, _facts: findings, after)


async def outcome(*checks: Check) -> dict[str, str]:
    return {
        each.check.name: each.skipped or ", ".join(found.cause for found in each.findings) or "ok"
        for each in await diagnose(HERE, checks)
    }


async def test_what_comes_after_an_error_is_not_looked_at_however_far_behind() -> None:
    assert await outcome(
        check("a", error("a is down", "Start it.")),
        check("b", error("b is down", ""), after=("a",)),
        check("c", error("c is down", ""), after=("b",)),
        check("d"),
    ) == {"a": "a is down", "b": "a is to be mended first", "c": "a is to be mended first", "d": "ok"}


async def test_a_warning_hides_nothing_but_what_it_names() -> None:
    assert await outcome(
        check("a", warning("c is starting", "Wait.", "c")), check("b", after=("a",)), check("c", error("c is down", ""))
    ) == {"a": "c is starting", "b": "ok", "c": "a is to be mended first"}


async def test_what_is_not_there_hides_nothing() -> None:
    assert await outcome(check("a", facts=None), check("b", after=("a",))) == {
        "a": "there is nothing of the kind here",
        "b": "ok",
    }


async def test_a_check_that_cannot_look_says_so_and_the_others_go_on() -> None:
    found = await outcome(check("a", facts=Retryable("Kafka has gone")), check("b", after=("a",)), check("c"))
    assert found == {"a": "It could not be looked at: Kafka has gone", "b": "a is to be mended first", "c": "ok"}


def test_every_check_has_a_name_of_its_own_and_stands_behind_those_that_it_comes_after() -> None:
    names = [each.name for each in CHECKS]
    assert len(set(names)) == len(names)
    for place, each in enumerate(CHECKS):
        assert set(each.after) <= set(names[:place]), each.name


def test_the_page_lists_every_check_with_its_question() -> None:
    listed = [
        line.strip("| ").split(" | ")
        for line in DOC.read_text().splitlines()
        if line.startswith("| `") and line.count("|") == 4
    ]
    assert listed == [
        [f"`{each.name}`", each.question, ", ".join(f"`{name}`" for name in each.after) or "none"] for each in CHECKS
    ]


def test_an_installation_shows_no_secret_when_it_is_printed() -> None:
    at = Installation(
        KafkaSettings(),
        ClickHouseSettings(password=SecretStr("hidden-1")),
        UpstreamSettings(upstream_keys={"cloud": SecretStr("hidden-2")}),
        AuditSettings(signing_keys=SecretStr("hidden-3")),
    )
    assert "hidden" not in repr(at)
