from datetime import UTC, datetime, timedelta
from random import Random

import numpy as np
import pytest
from msgspec.structs import replace

from schemas.events import WRONG_FORM, Attempt, Drift, Interaction, Message, Sensitivity
from services.audit.drift.clusters import LEARNED, Vectors
from services.audit.drift.measures import (
    COST,
    ERRORS,
    FORMAT,
    LATENCY,
    PER_REQUEST,
    REFUSALS,
    TASK_MIX,
    Measure,
    Stream,
    observations,
)
from services.audit.drift.watch import Promise, Watch
from services.runtime.conformal import SLOTS

BEGIN = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)
TASK = Stream("acme", "find")
MODEL = Stream("acme", "find", "small", "1")
PROMISE = Promise(requests_per_false_alarm=100_000, parts=1, streams=100)


def attempt(outcome: str = "answered", **changed: object) -> Attempt:
    made = Attempt(model="small", model_version="1", tier="small", outcome=outcome, start_us=0, duration_us=400_000)
    return replace(made, **changed)


def interaction(number: int = 0, **changed: object) -> Interaction:
    at = BEGIN + timedelta(seconds=number)
    made = Interaction(
        request_id=str(number),
        phase="finished",
        tenant="acme",
        application="helpdesk",
        task="find",
        received_at=at,
        finished_at=at + timedelta(seconds=1),
        messages=(Message(role="user", content="Which concerts are there tonight?"),),
        language="en",
        answer="The one in the park",
        finish_reason="stop",
        model="small",
        model_version="1",
        tier="small",
        attempts=(attempt(cost=0.2),),
        bundle_version="b-1",
        sensitivity=Sensitivity.INTERNAL,
        input_verdict="pass",
        output_verdict="pass",
        mean_logprob=-0.2,
        total_us=500_000,
    )
    return replace(made, **changed)


def told(of: Interaction) -> dict[tuple[Stream, Measure], float | str]:
    return {(stream, measure): value for stream, measure, value in observations(of, None)}


def east(texts: list[str]) -> Vectors:
    return np.array([[1.0, 0.0]] * len(texts), np.float32)


def test_a_request_gives_as_many_values_as_the_promise_reckons_with() -> None:
    embedding = 2
    assert len(told(interaction())) + embedding == PER_REQUEST


def test_a_request_that_is_not_finished_tells_nothing() -> None:
    assert not told(interaction(phase="opened"))


def test_what_a_caller_cancelled_tells_of_the_question_alone() -> None:
    assert {measure.aspect for _, measure in told(interaction(finish_reason="cancelled"))} == {"input"}


def test_each_model_that_was_asked_is_told_of() -> None:
    other = Stream("acme", "find", "large")
    found = told(
        interaction(
            model="large",
            model_version="",
            attempts=(
                attempt("failed", reason="gone"),
                attempt("unsure", reason=WRONG_FORM, model_version="2", cost=0.1),
                attempt("skipped", model="third"),
                attempt(model="large", model_version="", duration_us=900_000, cost=3.0),
            ),
        )
    )
    assert found[MODEL, ERRORS] == 1
    assert found[MODEL._replace(model_version="2"), FORMAT] == 1
    assert (found[other, ERRORS], found[other, LATENCY], found[other, COST]) == (0, 0.9, 3.0)
    assert not [stream for stream, _ in found if stream.model == "third"]


@pytest.mark.parametrize(
    ("changed", "refused", "failed"),
    [
        ({"finish_reason": "refused", "input_verdict": "refuse", "model": ""}, 1, 0),
        ({"finish_reason": "refused", "output_verdict": "refuse"}, 1, 0),
        ({"finish_reason": "refused", "model": ""}, 1, 0),  # no model is cleared for it
        ({"finish_reason": "refused", "input_verdict": "", "model": ""}, 0, 1),
        ({"finish_reason": "refused", "output_verdict": ""}, 0, 1),
        ({"finish_reason": "error"}, 0, 1),
        ({}, 0, 0),
    ],
)
def test_a_refusal_that_nobody_decided_is_an_error(changed: dict[str, str], refused: int, failed: int) -> None:
    found = told(interaction(**changed))
    assert (found[TASK, REFUSALS], found[TASK, ERRORS]) == (refused, failed)


@pytest.mark.parametrize(("value", "slot"), [(0.0, 0), (1e-4, 0), (1e3, SLOTS - 1), (1e9, SLOTS - 1)])
def test_numbers_beyond_the_scale_fall_into_its_ends(value: float, slot: int) -> None:
    assert LATENCY.slot(value) == slot


def play(watch: Watch, count: int, start: int = 0, **changed: object) -> list[Drift]:
    chance = Random(start)
    return [
        drift
        for number in range(start, start + count)
        for drift in watch.observe(
            replace(
                interaction(number, **changed),
                total_us=int(500_000 * chance.lognormvariate(0, 0.3)),
                mean_logprob=-chance.lognormvariate(-1.5, 0.5),
            ),
            None,
        )
    ]


def test_what_stays_the_same_raises_no_alarm_and_what_changes_does() -> None:
    watch = Watch(PROMISE, None, Random(1).random)
    assert not play(watch, 1000)

    found = play(watch, 300, start=1000, language="de")

    (drift,) = [each for each in found if each.measure == "language"]
    assert (drift.task_key, drift.tenant, drift.task, drift.model) == ("acme/find", "acme", "find", "")
    assert (drift.aspect, drift.state) == ("input", "detected")
    assert drift.subject in ("de", "en")  # as many more of one as fewer of the other
    assert drift.statistic >= drift.threshold == 100_000 * PER_REQUEST
    assert BEGIN + timedelta(seconds=900) < drift.window_start < drift.detected_at < BEGIN + timedelta(seconds=1050)


def test_no_alarm_is_told_of_values_that_are_all_alike() -> None:
    watch = Watch(Promise(requests_per_false_alarm=1, parts=1, streams=100), None, Random(1).random)
    assert not [drift for number in range(500) for drift in watch.observe(interaction(number), None)]


def test_a_model_is_told_of_with_its_version() -> None:
    watch = Watch(PROMISE, None, Random(1).random)
    play(watch, 1000)
    found = play(watch, 200, start=1000, attempts=(attempt(reason=WRONG_FORM, cost=0.2),))
    assert {(each.model, each.model_version, each.measure, each.aspect) for each in found} == {
        ("small", "1", "format failures", "output")
    }


def test_questions_about_something_else_are_found() -> None:
    random, meant = np.random.default_rng(1), {"a": [1.0, 0.2, 0.0, 0.0], "b": [0.0, 0.1, 0.2, 1.0]}

    def embed(texts: object) -> Vectors:
        (text,) = list(texts)  # type: ignore[call-overload]
        vector = np.array(meant[text]) + 0.1 * random.standard_normal(4)
        return (vector / np.linalg.norm(vector))[None].astype(np.float32)

    watch = Watch(PROMISE, embed, Random(1).random)
    assert not play(watch, LEARNED + 800, messages=(Message(role="user", content="a"),))
    found = play(watch, 200, start=2000, messages=(Message(role="user", content="b"),))
    assert "embedding distance" in {each.measure for each in found}


def test_the_stream_not_heard_of_for_longest_makes_room() -> None:
    watch = Watch(Promise(requests_per_false_alarm=1000, parts=1, streams=6), None, Random(1).random)
    play(watch, 400)  # a tenant, its task, the task's model
    play(watch, 1, start=400, tenant="b")
    play(watch, 1, start=401, tenant="c")  # acme is forgotten

    found = play(watch, 60, start=402, language="de")

    assert not found, "what was ordinary is not known any more"


def test_hours_of_the_day_are_compared_with_themselves() -> None:
    watch = Watch(Promise(requests_per_false_alarm=100_000, parts=24, streams=10), None, Random(1).random)
    found = []
    for number in range(3000):
        at = BEGIN + timedelta(minutes=2 * number)
        night = at.hour < 6
        task = interaction(number, received_at=at, total_us=900_000 if night else 300_000)
        found += watch.observe(task, None)
    assert not found
    assert TASK_MIX.categorical
