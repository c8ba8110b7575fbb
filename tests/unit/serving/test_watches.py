from collections.abc import Callable
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from schemas.bundle import LatencyObjective, Objectives, Rollout
from schemas.events import (
    WRONG_FORM,
    Attempt,
    Deployment,
    Feedback,
    Finding,
    GateAnswer,
    Interaction,
    Message,
    Sensitivity,
    Shadow,
    Specialist,
    ToolCall,
)
from services.serving import watches as limits
from services.serving.domain.signals import (
    COMPLAINTS,
    CORRECTIONS,
    DOUBT,
    FAILURES,
    FORM,
    GUARDRAILS,
    RATINGS,
    SLOWNESS,
    TOLD_WRONG,
    Signal,
    of_request,
)
from services.serving.state import WATCHED, DesiredState
from services.serving.watches import Watches
from tests.unit.serving.fakes import KEY, MODEL, NOW, TASK, TENANT, sample_bundle

BAD, GOOD = "2", ""  # the version of the specialist that is watched, and what it replaced: generic models
CALL = '{"name": "find", "arguments": {"place": "Rome"}}'


def deployed(**changed: Any) -> Deployment:
    made = Deployment(
        task_key=KEY,
        tenant=TENANT,
        task=TASK,
        deployment_id="d2",
        state="live",
        candidate_id="c2",
        model=MODEL,
        model_version=BAD,
        deployed_at=NOW,
        reason="better",
        false_rollbacks=0.01,
        candidate_answers=tuple(GateAnswer(right=n % 10 > 2, sum_logprob=-0.1 * n) for n in range(1, 31)),
    )
    return replace(made, **changed)


def attempt(version: str, **changed: Any) -> Attempt:
    made = Attempt(
        model=MODEL if version else "small",
        model_version=version,
        tier="specialist" if version else "small",
        outcome="answered",
        start_us=0,
        duration_us=100_000,
    )
    return replace(made, **changed)


class Traffic:
    """Requests of one task, five a second, and what is said of them."""

    def __init__(self, watches: Watches) -> None:
        self.watches = watches
        self.now = NOW
        self._number = 0

    def answer(self, version: str, *attempts: Attempt, **changed: Any) -> Interaction:
        self._number += 1
        self.now += timedelta(seconds=0.2)
        attempts = attempts or (attempt(version),)
        made = Interaction(
            request_id=f"r{self._number}",
            phase="finished",
            tenant=TENANT,
            application="web",
            task=TASK,
            received_at=self.now,
            finished_at=self.now,
            messages=(Message(role="user", content="Where?"),),
            answer=CALL,
            finish_reason="stop",
            model=attempts[-1].model,
            model_version=version,
            tier=attempts[-1].tier,
            attempts=attempts,
            bundle_version="b1",
            sensitivity=Sensitivity.INTERNAL,
            sum_logprob=-1.5,
        )
        made = replace(made, **changed)
        self.watches.take_interaction(made)
        return made

    def shadow(self, of: Interaction, **changed: Any) -> Shadow:
        """What the specialist in the shadow says to a request, a second after it was answered."""
        made = Shadow(
            request_id=of.request_id,
            tenant=TENANT,
            task=TASK,
            candidate_id="c2",
            model=MODEL,
            model_version=BAD,
            answered_at=of.finished_at + timedelta(seconds=1),
            answer=CALL,
            finish_reason="stop",
            attempts=(attempt(BAD),),
            bundle_version="b1",
            sensitivity=Sensitivity.INTERNAL,
            sum_logprob=-1.5,
        )
        made = replace(made, **changed)
        self.watches.take_shadow(made)
        return made

    def say(self, of: Interaction, kind: str, after_seconds: float = 1.0, **changed: Any) -> None:
        said = Feedback(
            feedback_id="f",
            request_id=of.request_id,
            tenant=TENANT,
            application="web",
            given_at=of.finished_at + timedelta(seconds=after_seconds),
            source="explicit",
            kind=kind,
        )
        self.watches.take_feedback(replace(said, **changed))

    def look(self, after_seconds: float = 60.0) -> list[limits.Finding]:
        return self.watches.look(self.now + timedelta(seconds=after_seconds))

    def counted(self, signal: Signal) -> tuple[int, float]:
        """How many values of a signal of the watched one were seen, and what they add up to."""
        evidence = self.watches._watched[KEY].watch._evidence[signal]
        return evidence.own.count, evidence.own.sum


@pytest.fixture
def traffic() -> Traffic:
    state = DesiredState()
    state.bundle = sample_bundle()
    return Traffic(Watches(state, Random(1).random))


Said = Callable[[Traffic, Interaction, float], None]


def complain(traffic: Traffic, of: Interaction, chance: float) -> None:
    if chance < (0.4 if of.model_version else 0.05):
        traffic.say(of, "asked_again")


def correct(traffic: Traffic, of: Interaction, chance: float) -> None:
    right = chance < (0.3 if of.model_version else 0.7)
    traffic.say(of, "correct_answer", text=CALL.replace("Rome", "rome" if right else "Oslo"))


def judge(traffic: Traffic, of: Interaction, chance: float) -> None:
    traffic.say(of, "rating", rating=chance - 0.8 if of.model_version else chance - 0.2)


@pytest.mark.parametrize(
    ("say", "signal"), [(complain, COMPLAINTS), (correct, CORRECTIONS), (judge, RATINGS)], ids=lambda each: str(each)
)
def test_a_bad_specialist_is_found_within_300_requests_by_what_is_said_of_it(
    traffic: Traffic, say: Said, signal: Signal
) -> None:
    random = Random(2)
    for _ in range(300):
        say(traffic, traffic.answer(GOOD), random.random())
    traffic.look()
    traffic.watches.take_deployment(deployed())
    for _ in range(300):
        say(traffic, traffic.answer(BAD), random.random())
    (found,) = traffic.look()
    assert found.alarm is not None
    assert (found.deployment.deployment_id, found.alarm.signal) == ("d2", signal)


def test_a_specialist_that_is_less_sure_than_at_its_gate_is_found(traffic: Traffic) -> None:
    traffic.watches.take_deployment(deployed())
    for _ in range(100):
        traffic.answer(BAD, sum_logprob=-20.0)
    (found,) = traffic.look()
    assert found.alarm is not None
    assert found.alarm.signal is DOUBT
    assert "20 (mean of" in str(found.alarm)
    assert "of its gate 1.55 (mean of 30)" in str(found.alarm)


def test_one_that_is_told_wrong_more_often_than_its_gate_says_is_found_however_bad_what_it_replaced(
    traffic: Traffic,
) -> None:
    for version in (GOOD, BAD):
        if version:
            traffic.watches.take_deployment(deployed())
        for _ in range(60):
            traffic.say(traffic.answer(version), "correct_answer", text="another")
        traffic.look()
    (found,) = traffic.look()
    assert found.alarm is not None
    assert found.alarm.signal is TOLD_WRONG
    assert "1 (mean of" in str(found.alarm)
    assert "of its gate 0.3 (mean of 30)" in str(found.alarm)


def test_who_is_only_ever_told_what_was_wrong_is_no_worse_than_its_gate(traffic: Traffic) -> None:
    """An application that tells the correct answer of a wrong one alone, as rarely wrong as the gate says."""
    answers = tuple(GateAnswer(right=n % 5 > 0) for n in range(30))
    random = Random(4)
    traffic.watches.take_deployment(deployed(candidate_answers=answers))
    for _ in range(600):
        answer = traffic.answer(BAD)
        if random.random() < 0.2:
            traffic.say(answer, "correct_answer", text="another")
    assert traffic.look() == []
    assert traffic.counted(TOLD_WRONG) == (600, traffic.counted(CORRECTIONS)[1])


def test_a_good_one_is_left_alone(traffic: Traffic) -> None:
    random = Random(3)
    for version in (GOOD, BAD):
        if version:
            traffic.watches.take_deployment(deployed())
        for _ in range(600):
            answer = traffic.answer(version, sum_logprob=-0.1 * random.randint(1, 30))
            correct(traffic, replace(answer, model_version=""), random.random())
            complain(traffic, replace(answer, model_version=""), random.random())
    assert traffic.look() == []
    assert traffic.counted(COMPLAINTS)[0] == 600


def test_the_specialist_before_is_the_reference_where_there_was_one(traffic: Traffic) -> None:
    for version in ("1", GOOD):
        for _ in range(50):
            traffic.answer(version)
    before = Specialist(
        candidate_id="c1",
        model_version="1",
        adapter_path="",
        system_prompt="",
        response_schema="",
        sensitivity=Sensitivity.PUBLIC,
    )
    traffic.watches.take_deployment(deployed(before=(before,), share=0.1))
    for version in ("1", GOOD):
        for _ in range(20):
            traffic.answer(version)
    evidence = traffic.watches._watched[KEY].watch._evidence
    assert evidence[FORM].reference.count == 70
    assert evidence[DOUBT].reference.count == 30, "how sure it is, is held against its own gate alone"


@pytest.mark.parametrize(
    ("said", "counts"),
    [
        ({"kind": "asked_again"}, True),
        ({"kind": "edit", "text": "x"}, True),
        ({"kind": "rating", "rating": -1.0}, True),
        ({"kind": "rating", "rating": -0.1}, True),
        ({"kind": "correct_answer", "text": "another"}, True),
        ({"kind": "correct_answer", "text": CALL}, False),
        ({"kind": "rating", "rating": 1.0}, False),
        ({"kind": "rating", "rating": float("nan")}, False),
        ({"kind": "rating", "rating": -7.0}, False),
        ({"kind": "outcome", "text": "bought"}, False),
        ({"kind": "asked_again", "after_seconds": 31.0}, False),
        ({"kind": "asked_again", "tenant": "another"}, False),
    ],
)
def test_what_finds_fault_at_once_is_a_complaint(traffic: Traffic, said: dict[str, Any], counts: bool) -> None:
    traffic.watches.take_deployment(deployed())
    traffic.say(traffic.answer(BAD), **said)
    traffic.look()
    assert traffic.counted(COMPLAINTS) == (1, float(counts))


def test_feedback_that_is_read_before_its_answer_is_kept_for_it_and_counts_once(traffic: Traffic) -> None:
    traffic.watches.take_deployment(deployed())
    answer = traffic.answer(BAD)
    late = replace(answer, request_id="late")
    for _ in range(3):
        traffic.say(late, "rating", rating=-1.0)
    traffic.watches.take_interaction(late)
    traffic.say(late, "rating", rating=-1.0)
    assert traffic.counted(RATINGS) == (1, 1.0)


def test_an_answer_is_settled_when_complaints_had_their_time(traffic: Traffic) -> None:
    traffic.watches.take_deployment(deployed())
    traffic.answer(BAD)
    traffic.look(20.0)
    assert traffic.counted(COMPLAINTS) == (0, 0.0)
    traffic.look(40.0)
    assert traffic.counted(COMPLAINTS) == (1, 0.0)


def test_of_a_burst_of_failures_one_counts(traffic: Traffic) -> None:
    traffic.watches.take_deployment(deployed())
    for _ in range(100):  # 20 seconds
        traffic.answer(GOOD, attempt(BAD, outcome="failed"), attempt(GOOD))
    assert traffic.counted(FAILURES) == (1, 1.0)
    traffic.now += timedelta(seconds=60)
    traffic.answer(GOOD, attempt(BAD, outcome="failed"), attempt(BAD))
    assert traffic.counted(FAILURES) == (3, 2.0)


@pytest.mark.parametrize(
    ("changed", "by", "wanted"),
    [
        ({}, {}, {FORM: 0, GUARDRAILS: 0, FAILURES: 0, SLOWNESS: 0, DOUBT: 1.5}),
        ({}, {"duration_us": 2_000_001}, {SLOWNESS: 1}),
        ({}, {"outcome": "unsure", "reason": WRONG_FORM}, {FORM: 1}),
        ({"answer": "not a call"}, {}, {FORM: 1}),
        (
            {"answer": "", "tool_calls": (ToolCall(id="1", name="f", arguments="{}"),), "finish_reason": "tool_calls"},
            {},
            {FORM: 0},
        ),
        ({"finish_reason": "length"}, {}, {FORM: 1}),
        ({"findings": (Finding(direction="output", kind="format", action="flag"),)}, {}, {FORM: 1, GUARDRAILS: 0}),
        ({"findings": (Finding(direction="output", kind="leak", action="refuse"),)}, {}, {GUARDRAILS: 1}),
        ({"findings": (Finding(direction="input", kind="email", action="mask"),)}, {}, {GUARDRAILS: 0}),
        ({"sum_logprob": float("nan")}, {}, {DOUBT: None}),
        ({"temperature": 0.7}, {}, {DOUBT: None}),
    ],
)
def test_what_a_request_tells_of_who_was_asked(
    changed: dict[str, Any], by: dict[str, Any], wanted: dict[Signal, float | None]
) -> None:
    bundle = sample_bundle()
    task = bundle.tasks["consumer-services"].model_copy(
        update={"objectives": Objectives(latency=LatencyObjective(ms=2000, share=0.95))}
    )
    bundle = bundle.model_copy(update={"tasks": {TASK: task}})
    interaction = Traffic(Watches(DesiredState(), Random(1).random)).answer(BAD, attempt(BAD, **by), **changed)
    told = {signal: value for _, signal, value in of_request(interaction, bundle)}
    assert {signal: told.get(signal) for signal in wanted} == wanted


@pytest.mark.parametrize("changed", [{"phase": "opened"}, {"finish_reason": "cancelled"}])
def test_a_request_that_its_caller_left_tells_nothing(traffic: Traffic, changed: dict[str, str]) -> None:
    traffic.watches.take_deployment(deployed())
    traffic.say(traffic.answer(BAD, **changed), "asked_again")
    traffic.look()
    assert all(traffic.counted(signal) == (0, 0.0) for signal in (FORM, FAILURES, COMPLAINTS))


@pytest.mark.parametrize("changed", [{"false_rollbacks": 0.0}, {"state": "none"}])
def test_what_nobody_is_to_watch_is_not_watched(traffic: Traffic, changed: dict[str, Any]) -> None:
    traffic.watches.take_deployment(deployed())
    traffic.watches.take_deployment(deployed(**changed))
    for _ in range(100):
        traffic.answer(BAD, sum_logprob=-20.0)
    assert traffic.look() == []


def test_a_canary_has_passed_with_enough_answers_and_no_alarm(traffic: Traffic) -> None:
    traffic.watches._state.bundle = sample_bundle(Rollout(canary_share=0.1, canary_requests=30))
    traffic.watches.take_deployment(deployed(share=0.1))
    for _ in range(29):
        traffic.answer(BAD)
    assert traffic.look() == []
    traffic.answer(BAD)
    (found,) = traffic.look()
    assert (found.alarm, found.answers) == (None, 30)


SHADOW = Rollout(shadow_requests=30)


def test_a_shadow_has_passed_with_enough_answers_of_its_own_and_no_alarm(traffic: Traffic) -> None:
    traffic.watches._state.bundle = sample_bundle(SHADOW)
    traffic.watches.take_deployment(deployed(share=0.0))
    for number in range(60):
        answer = traffic.answer(GOOD)
        if number < 29:
            traffic.shadow(answer)
    assert traffic.look() == []
    traffic.shadow(traffic.answer(GOOD))
    (found,) = traffic.look()
    assert (found.alarm, found.answers) == (None, 30)


@pytest.mark.parametrize("told_after_seconds", [0.5, 5.0], ids=["before the shadow answers", "after it"])
def test_a_shadow_that_others_are_right_beside_is_found_by_what_is_said_of_their_answers(
    traffic: Traffic, told_after_seconds: float
) -> None:
    traffic.watches._state.bundle = sample_bundle(Rollout(shadow_requests=300))
    traffic.watches.take_deployment(deployed(share=0.0))
    random = Random(5)
    for _ in range(100):
        answer = traffic.answer(GOOD, answer=CALL if random.random() < 0.7 else CALL.replace("Rome", "Oslo"))
        says = CALL if random.random() < 0.1 else CALL.replace("Rome", "Bonn")
        if told_after_seconds < 1:
            traffic.say(answer, "correct_answer", told_after_seconds, text=CALL)
        traffic.shadow(answer, answer=says)
        if told_after_seconds > 1:
            traffic.say(answer, "correct_answer", told_after_seconds, text=CALL)
    (found,) = traffic.look()
    assert found.alarm is not None
    assert found.alarm.signal in (CORRECTIONS, TOLD_WRONG)


def test_what_users_say_of_the_answer_that_they_got_is_not_said_of_the_shadow(traffic: Traffic) -> None:
    traffic.watches._state.bundle = sample_bundle(SHADOW)
    traffic.watches.take_deployment(deployed(share=0.0))
    answer = traffic.answer(GOOD)
    traffic.shadow(answer)
    traffic.say(answer, "rating", rating=-1.0)
    traffic.say(answer, "asked_again")
    traffic.look()
    assert traffic.counted(RATINGS) == traffic.counted(COMPLAINTS) == (0, 0.0)
    assert traffic.counted(TOLD_WRONG) == (1, 0.0)


@pytest.mark.parametrize(
    ("changed", "signal"),
    [
        ({"finish_reason": "error", "error": "away", "attempts": (attempt(BAD, outcome="failed"),)}, FAILURES),
        ({"answer": "no call"}, FORM),
        (
            {
                "answer": "",
                "finish_reason": "refused",
                "findings": (Finding(direction="output", kind="leak", action="refuse"),),
            },
            GUARDRAILS,
        ),
    ],
)
def test_a_shadow_is_watched_for_what_needs_nobody_to_say_anything(
    traffic: Traffic, changed: dict[str, Any], signal: Signal
) -> None:
    traffic.watches._state.bundle = sample_bundle(SHADOW)
    traffic.watches.take_deployment(deployed(share=0.0))
    traffic.shadow(traffic.answer(GOOD), **changed)
    assert traffic.counted(signal) == (1, 1.0)


def test_of_what_is_said_of_one_request_no_more_is_kept_than_is_compared(traffic: Traffic) -> None:
    answer = traffic.answer(GOOD)
    for number in range(100):
        traffic.say(answer, "correct_answer", text=str(number) * limits.LONGEST_ANSWER, comment="why")
    (said,) = traffic.watches._said[answer.request_id].values()
    assert (said.text, said.comment) == ("0" * limits.LONGEST_ANSWER, "")


def test_a_day_after_it_went_live_a_specialist_is_not_watched_any_more(traffic: Traffic) -> None:
    traffic.watches.take_deployment(deployed())
    traffic.now += WATCHED
    for _ in range(100):
        traffic.answer(BAD, sum_logprob=-20.0)
    assert traffic.look() == []


@pytest.mark.parametrize(
    ("hours", "changed", "since"),
    [(3.0, {}, 4.0), (3.0, {"false_rollbacks": 0.0}, 1.0), (30.0, {}, 1.0), (3.0, {"state": "none"}, 1.0)],
)
def test_what_is_read_again_after_a_restart_begins_before_what_is_watched_went_live(
    traffic: Traffic, hours: float, changed: dict[str, Any], since: float
) -> None:
    now: datetime = NOW + timedelta(hours=hours)
    traffic.watches._state.take_deployment(deployed(**changed))
    assert now - traffic.watches.read_from(now) == timedelta(hours=since)


def test_memory_is_bounded(traffic: Traffic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ANSWERS", 20)
    monkeypatch.setattr(limits, "VERSIONS", 5)
    for number in range(100):
        answer = traffic.answer(str(number))
        traffic.say(replace(answer, request_id=f"unknown {number}"), "rating", rating=1.0)
    held = traffic.watches
    assert (len(held._answers), len(held._said), len(held._known)) == (20, 20, 5)
    assert held._unsettled.maxlen == 10_000
    assert all(values.maxlen == limits.LATEST for known in held._known.values() for values in known.values.values())
