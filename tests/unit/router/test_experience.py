"""What a router learns of models: from what triage tells, from gates, from its own answers."""

from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import pytest

from schemas.bundle import Bundle, Price
from schemas.events import Deployment, GateAnswer, Outcome, Sensitivity
from services.router.domain.catalogue import Candidate
from services.router.domain.routing import Estimate
from services.router.experience import FEWEST, FRESH_SECONDS, Experience, Question
from tests.unit.router.fakes import LIGHTS, Stack, ask, bundle, deployment, no_space, user
from tests.unit.router.test_tasks import space

SMALL = Candidate("small", "small", "small-llm", "", "small", 256)
BIG = Candidate("big", "big", "big-llm", "", "large", 512)


def outcome(question: str, success: float, model: str = "small", tier: str = "small", version: str = "1") -> Outcome:
    return Outcome(
        request_id="r",
        tenant="shop",
        task="chat",
        found_at=datetime(2026, 1, 1, tzinfo=UTC),
        source="label",
        success=success,
        model=model,
        model_version=version,
        tier=tier,
        question=question,
        turns=1,
        tools=0,
        sensitivity=Sensitivity.INTERNAL,
        bundle_version="b1",
    )


def gated(accuracy: float = 0.9, items: int = 100, version: str = "3", incumbent: float = 0.1) -> Deployment:
    return msgspec.structs.replace(
        deployment(),
        candidate_id=f"c{version}",
        model_version=version,
        gate_items=items,
        gate_accuracy=accuracy,
        incumbent="small",
        incumbent_accuracy=incumbent,
    )


def specialist(version: str = "3") -> Candidate:
    return Candidate("specialist-shop-chat", "specialist", "specialist-shop-chat", version, "specialist", 64, gated())


def question(text: str = "talk to me", max_tokens: int = 64) -> Question:
    return Question("shop", "chat", (user(text),), (), max_tokens)


def estimate(experience: Experience, candidate: Candidate, text: str = "talk to me", now: float = 0.0) -> Estimate:
    return experience.estimates([candidate], question(text), now)[0]


def chance(experience: Experience, candidate: Candidate, text: str = "talk to me") -> float:
    found = estimate(experience, candidate, text).chance
    assert found is not None
    return found


def with_bar(bar: float) -> Bundle:
    content = bundle().model_dump()
    content["tenants"]["shop"]["routing"] = {"bar": bar}
    return Bundle.model_validate(content)


async def test_a_kind_of_question_on_which_the_cheap_model_fails_goes_to_the_dear_one() -> None:
    stack = Stack(space=space)
    stack.governance.cleared["big"] = Sensitivity.RESTRICTED
    stack.catalogue = replace(stack.catalogue, bundle=with_bar(0.6))
    for _ in range(30):
        for model, tier in (("small", "small"), ("big", "large")):
            stack.experience.take_outcome(outcome("a train ticket", 0.0 if model == "small" else 1.0, model, tier))
            stack.experience.take_outcome(outcome("talk to a friend", 1.0, model, tier))
    asked = {}
    for text in ("one ticket for the train please", "talk to me friend"):
        asked[text] = (await stack.router.complete(stack.call(), ask(text))).model
    assert asked == {"one ticket for the train please": "big", "talk to me friend": "small"}
    explanation = await stack.router.explain(stack.call(), ask("a train ticket"))
    assert explanation.journal.decision is not None
    reasons = {each.model: each.reason for each in explanation.journal.decision.candidates}
    assert reasons["small"].startswith("chance 0.")
    assert reasons["small"].endswith("is below the bar 0.60")
    assert reasons["big"] == "cheapest that clears the bar 0.60"


async def test_the_record_has_what_was_expected_and_the_propensity() -> None:
    stack = Stack(space=space)
    stack.experience.take_outcome(outcome("talk", 1.0))
    await stack.router.complete(stack.call(), ask("talk to me"))
    found = {each.model: each.chance for each in stack.recorder.last.estimates}
    assert found["small"] is not None
    assert 0.5 < found["small"] < 1
    assert stack.recorder.last.propensity == 1.0


async def test_explain_explores_nothing() -> None:
    stack = Stack(deployment())
    content = bundle().model_dump()
    content["tasks"]["chat"]["routing"] = {"exploration": 0.5, "exploration_price": 1.0}
    stack.catalogue = replace(stack.catalogue, bundle=Bundle.model_validate(content))
    stack.router.clock = replace(stack.clock, chance=lambda: 0.0)
    explanation = await stack.router.explain(stack.call(), ask("Hi"))
    assert explanation.journal.decision is not None
    assert explanation.journal.decision.chosen is not None
    assert explanation.journal.decision.chosen.tier == "specialist"
    completion = await stack.router.complete(stack.call(), ask("Hi"))
    assert (completion.model, stack.recorder.last.propensity) == ("small", 0.5)


def test_a_promoted_specialist_is_judged_by_its_gate_and_not_by_the_one_before() -> None:
    experience = Experience(space)
    experience.take_deployment(gated(0.3, version="3"))
    for _ in range(50):
        experience.take_outcome(outcome("talk to me", 0.0, "specialist-shop-chat", "specialist", "3"))
    assert chance(experience, specialist("3")) < 0.15
    experience.take_deployment(gated(0.95, version="4"))
    assert chance(experience, specialist("4")) > 0.8
    assert chance(experience, specialist("3")) < 0.15


def test_the_gate_says_how_the_generic_model_does_too() -> None:
    experience = Experience(space)
    experience.take_deployment(gated(incumbent=0.05))
    assert chance(experience, SMALL) < 0.25


def test_the_same_gate_told_twice_counts_once() -> None:
    once, twice = Experience(space), Experience(space)
    once.take_deployment(gated(items=4))
    for _ in range(2):
        twice.take_deployment(gated(items=4))
    assert chance(once, specialist()) == chance(twice, specialist())


def test_an_unlikely_outcome_weighs_more_up_to_a_bound() -> None:
    chances = []
    for propensity in (1.0, 0.2, 0.1, 0.001, 0.0):
        experience = Experience(space)
        experience.take_outcome(msgspec.structs.replace(outcome("talk to me", 0.0), propensity=propensity))
        chances.append(chance(experience, SMALL))
    assert chances[0] > chances[1] > chances[2] == chances[3] == chances[4]


def test_what_was_learned_of_one_task_says_nothing_of_another() -> None:
    experience = Experience(space)
    for _ in range(50):
        experience.take_outcome(outcome("talk to me", 0.0))
    other = experience.estimates([SMALL], replace(question(), task="calls"), 0.0)[0]
    assert other.chance == pytest.approx(0.5)


def test_without_embeddings_nobody_is_judged_unless_a_bar_wants_it() -> None:
    experience = Experience(no_space)
    experience.take_outcome(outcome("talk", 0.0))
    experience.take_deployment(gated())
    assert estimate(experience, SMALL) == Estimate()


def test_a_model_is_timed_by_its_latest_answers_while_they_are_fresh() -> None:
    experience = Experience(no_space)
    for i in range(FEWEST - 1):
        experience.answered(SMALL, "shop", "chat", 1.0, 10, now=float(i))
    assert estimate(experience, SMALL, now=20.0).seconds is None
    experience.answered(SMALL, "shop", "chat", 5.0, 10, now=20.0)
    assert estimate(experience, SMALL, now=20.0).seconds == 5.0
    for _ in range(200):
        experience.answered(SMALL, "shop", "chat", 0.5, 10, now=21.0)
    assert estimate(experience, SMALL, now=21.0).seconds == 0.5
    assert estimate(experience, SMALL, now=22.0 + FRESH_SECONDS).seconds is None


def test_a_price_is_of_the_request_and_the_answers_that_are_usual() -> None:
    dear = replace(BIG, price=Price(per_million_prompt_tokens=1e6, per_million_completion_tokens=2e6))
    experience = Experience(no_space)
    unknown = experience.estimates([dear], question("x" * 40, max_tokens=64), 0.0)[0]
    assert unknown.price == (4 + 10) + 2 * 64
    experience.answered(dear, "shop", "chat", 1.0, 16, now=0.0)
    assert experience.estimates([dear], question("x" * 40), 0.0)[0].price == (4 + 10) + 2 * 16
    with_tools = replace(question("x" * 40), tools=(LIGHTS,))
    assert experience.estimates([dear], with_tools, 0.0)[0].price > (4 + 10) + 2 * 16


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.router.experience.REMEMBERED", 2)
    experience = Experience(space)
    for version in ("1", "2", "3"):
        for _ in range(20):
            experience.take_outcome(outcome("talk to me", 0.0, "specialist-shop-chat", "specialist", version))
    assert chance(experience, specialist("3")) < 0.3
    assert chance(experience, specialist("2")) < 0.3
    assert chance(experience, specialist("1")) > 0.6


def answers(sure: float, unsure: float) -> tuple[GateAnswer, ...]:
    """What a model said of itself on a gate: right where it was sure, wrong where it was not."""
    return (GateAnswer(right=True, sum_logprob=sure), GateAnswer(right=False, sum_logprob=unsure)) * 30


def test_how_sure_a_specialist_is_counts_for_what_its_gate_found() -> None:
    experience = Experience(no_space)
    for version, sure, unsure in (("3", -0.2, -3.0), ("4", -5.0, -25.0)):
        found = msgspec.structs.replace(gated(version=version), candidate_answers=answers(sure, unsure))
        experience.take_deployment(found)
        experience.take_deployment(found)  # told again, it counts once
    assert experience.confidence(specialist("3"), "shop", "chat", -3.0) < 0.2
    assert experience.confidence(specialist("4"), "shop", "chat", -5.0) > 0.6
    assert experience.confidence(specialist("4"), "shop", "chat", -25.0) < 0.2


def test_how_sure_a_model_is_counts_for_what_came_of_its_answers() -> None:
    experience = Experience(no_space)
    before = experience.confidence(SMALL, "shop", "chat", -0.1)
    for _ in range(30):
        experience.take_outcome(msgspec.structs.replace(outcome("talk", 0.0), sum_logprob=-0.1))
    assert experience.confidence(SMALL, "shop", "chat", -0.1) < 0.2 < before
    assert experience.confidence(BIG, "shop", "chat", -0.1) == before
