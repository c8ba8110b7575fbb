"""What a gate asks beside the hold-out, and the report that it leaves."""

import hashlib
from html.parser import HTMLParser

import msgspec
import pytest

from schemas.bundle import GateCase, Price, Routing, ToolDocument
from schemas.events import Candidate, GateAnswer, Sensitivity
from services.trainer.report import report
from tests.unit.trainer.fakes import NOW, TASK, TENANT, TRACK, World, right_answer

TOOLS = (ToolDocument(name=TRACK.name, parameters=msgspec.json.decode(TRACK.parameters)),)


def retained(*numbers: int) -> tuple[GateCase, ...]:
    questions = [f"Where is order {number}?" for number in numbers]
    return tuple(GateCase(request=question, tools=TOOLS, answer=right_answer(question)) for question in questions)


SPECIALIST = f"specialist-{TENANT}-{TASK}"


@pytest.fixture
def world(world: World) -> World:
    """With as many labels as start a run."""
    world.label(*range(40))
    return world


async def test_cases_of_the_bundle_are_asked_of_both_and_are_no_part_of_the_hold_out(world: World) -> None:
    world.publish(gate=retained(900, 901))
    run = await world.run()
    (told,) = world.announcer.told
    assert run.gated == run.gate_items == 2 * (run.holdout_rows + 2)
    assert told.verdict == "promote"
    assert told.reasons[-1].startswith("met: 0 of 2 cases of the bundle are answered rightly now")
    assert len(told.candidate_answers) == len(told.incumbent_answers) == run.holdout_rows


@pytest.mark.parametrize(("may_lose", "verdict"), [(0.0, "refuse"), (0.5, "promote")])
async def test_a_candidate_that_gains_and_loses_a_case_is_refused_unless_the_bundle_allows_it(
    world: World, may_lose: float, verdict: str
) -> None:
    first, second = retained(900, 901)
    for case in (first, second):
        world.models.said["small", "", case.request] = case.answer
    world.models.said[SPECIALIST, "1", second.request] = "I do not know."
    world.publish(gate=(first, second), retained_loss=may_lose)
    await world.run()
    (told,) = world.announcer.told
    assert (told.gain, told.verdict) == (1.0, verdict)
    assert told.reasons[-1].endswith(
        f"2 of 2 cases of the bundle are answered rightly now, and 1 of these would be lost; {may_lose:.0%} may be"
    )


@pytest.mark.parametrize(("answer", "verdict"), [("Under the MAT.", "refuse"), ("I do not know.", "promote")])
async def test_a_candidate_that_says_what_no_answer_may_is_refused(world: World, answer: str, verdict: str) -> None:
    asked = "Where is the key?"
    world.models.said[SPECIALIST, "1", asked] = answer
    world.publish(gate=(GateCase(request=asked, never=("the mat",)),))
    run = await world.run()
    (told,) = world.announcer.told
    assert told.verdict == verdict
    assert run.gated == run.gate_items == 2 * run.holdout_rows + 1, "the incumbent is not asked: it is live already"


async def test_a_candidate_is_held_to_the_latency_that_the_router_would_hold_it_to(world: World) -> None:
    world.publish(routing=Routing(latency_ms=60_000))
    await world.run()
    (told,) = world.announcer.told
    assert told.reasons[-1].endswith("60,000 ms are allowed")
    assert told.verdict == "promote"


async def test_what_answers_cost_is_on_record(world: World) -> None:
    world.publish(specialist_price=Price(per_million_prompt_tokens=2.0, per_million_completion_tokens=3.0))
    await world.run()
    (told,) = world.announcer.told
    assert told.cost_of_thousand == pytest.approx(0.005), "a token of each, a thousand times"
    assert told.incumbent_cost_of_thousand == 0


async def test_the_report_lies_in_the_runs_folder_and_its_digest_is_on_record(world: World) -> None:
    run = await world.run()
    (told,) = world.announcer.told
    page = (world.artifacts / TENANT / TASK / "runs" / run.run_id / "report.html").read_bytes()
    assert told.report_sha256 == hashlib.sha256(page).hexdigest()
    text = page.decode()
    assert "promoted" in text
    assert f"answers {run.holdout_rows} rightly" in text
    assert "function track" in text


async def test_the_digest_of_the_adapter_that_was_judged_is_on_record(world: World) -> None:
    run = await world.run()
    (told,) = world.announcer.told
    weights = hashlib.sha256(run.run_id.encode()).hexdigest()
    line = f"{weights}  adapter_model.safetensors\n"
    assert told.adapter_sha256 == hashlib.sha256(line.encode()).hexdigest()


class Tags(HTMLParser):
    """What a page loads from elsewhere, and the tags that are left open."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [name for name, _ in attrs if name in ("src", "href")]
        if tag not in ("meta", "br", "li", "p"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("li", "p"):
            assert self.open.pop() == tag


def candidate(verdict: str, *reasons: str) -> Candidate:
    return Candidate(
        candidate_id="c-1",
        run_id="c-1",
        tenant=TENANT,
        task="<b>task</b>",
        created_at=NOW,
        verdict=verdict,
        reasons=reasons,
        base_model="tiny",
        adapter_path="a",
        system_prompt="p",
        dataset_id="d",
        incumbent="small",
        candidate_answers=(GateAnswer(right=True, sum_logprob=-0.01), GateAnswer(right=False, sum_logprob=-3.0)),
        incumbent_answers=(GateAnswer(right=False), GateAnswer(right=True)),
        sensitivity=Sensitivity.INTERNAL,
        bundle_version="b1",
    )


def test_a_report_needs_nothing_else_and_takes_no_text_for_markup() -> None:
    page = report(candidate("refuse", "met: 2 were compared", "not met: surely worse on function a"), [["a"], ["a"]])
    tags = Tags(page)
    assert (tags.loaded, tags.open) == ([], [])
    assert "<b>task" not in page
    assert "&lt;b&gt;task" in page
    assert '<li class="unmet">Surely worse on function a</li>' in page
    assert "right answer was found likelier than a wrong one 100.0 %" in page
    assert "<td>a</td><td>2</td><td>50.0 %</td><td>50.0 %</td><td>1</td><td>1</td>" in page
