"""How soon a bad specialist is rolled back, and how often a good one is, beside a rule with fixed thresholds.

    python -m benchmarks.rollout [--runs 100] [--good-runs 100]

Requests of one task, five a second, are made up and go through serving's watches (`services/serving/watches.py`) as
their records would. Before the specialist goes live, a generic model answers 500; it gets 60 % of them right. The
specialist's gate asked it 60 requests. What an answer is like follows from whether it is right: how likely its model
found it (wrong answers less so: AUC 0.87, as measured of real ones), whether its form is the one that was asked for,
and what is said of it. Of what is said there are three kinds of traffic:

    outcomes       of one answer in two the application tells the correct one, five seconds later
    complaints     nothing but that a user asks again: after 30 % of the wrong answers and 3 % of the right ones, 12
                   seconds later on average
    silence        nothing at all

In the shadow a specialist is asked what the generic model answers; outcomes are all that tells of it. What is hard for
one is hard for the other (their chances of a right answer correlate by 0.7), as on requests of the same people.

Bad specialists get a rollback within 300 requests, one minute, or are counted as missed. Errors are none and latency is
healthy throughout. Good ones are watched for 3,000 requests.

The rule with fixed thresholds is one of the kind that rollout controllers are given: each ten seconds the latest minute
is looked at; a signal that is twice what it was before, and by five points of a hundred more, rolls back, and so do
answers that it found three times less likely, by the geometric mean. It may not look before it has 20 values.
"""

import argparse
import math
import statistics
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from random import Random

from schemas.bundle import Bundle
from schemas.events import Attempt, Deployment, Feedback, GateAnswer, Interaction, Message, Sensitivity, Shadow
from services.serving.domain.signals import DOUBT, Signal, of_gate
from services.serving.state import DesiredState
from services.serving.watches import Watches

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
PER_SECOND, BEFORE, GATE = 5, 500, 60
RIGHT, WRONG = '{"name": "find", "arguments": {"what": "this"}}', '{"name": "find", "arguments": {"what": "that"}}'
MINUTE_REQUESTS, GOOD_REQUESTS = 300, 3000


@dataclass(frozen=True)
class Model:
    """What a model's answers are like.

    Attributes:
        right: Share that is.
        malformed: Share of the others whose form is not the one that was asked for.
        sure: Of a right answer, on average; of a wrong one it is 3 more: the negative logarithm of its probability, in
            units of which each is e times as much.
        gate_right: Share that its gate found right; none: what it is.
        gate_sure: What its gate found of that; none: what it is.
    """

    right: float
    malformed: float = 0.02
    sure: float = -1.5
    gate_right: float | None = None
    gate_sure: float | None = None


INCUMBENT = Model(0.6)
GOOD = {"as its gate measured, 80 % right": Model(0.8), "as good as the one before, 60 % right": Model(0.6)}
BAD = {
    "half of it broken on the way: unsure, 20 %": Model(0.2, 0.1, 1.5, gate_right=0.8, gate_sure=-1.5),
    "promoted by a wrong gate: 5 % right, no less sure": Model(0.05, sure=-2.5, gate_right=0.8, gate_sure=-1.0),
    "taught the wrong answers: 20 %, as sure as at its gate": Model(0.2, sure=-3.0),
    "worse than before: 40 %": Model(0.4, sure=-2.0),
    "every fourth answer malformed, the others as good": Model(0.6, 0.6),
}
SAID = ("outcomes", "complaints", "silence")
IN_SHADOW = "outcomes, in the shadow"
# How far the same requests are hard for both models.
CORRELATION = 0.7


class Traffic:
    """Requests of one task and what is said of them, in the order of their times."""

    def __init__(self, watches: Watches, said: str, random: Random) -> None:
        self.watches = watches
        self.now = BEGIN
        self._said = said
        self._random = random
        self._to_say: list[tuple[datetime, int, Feedback]] = []
        self._number = 0

    def answers(self, model: Model, version: str, count: int) -> Iterator[int]:
        """Let a model answer so many, alone or in the shadow, and yield the number of each."""
        for number in range(1, count + 1):
            self.now += timedelta(seconds=self._random.expovariate(PER_SECOND))
            while self._to_say and self._to_say[0][0] <= self.now:
                self.watches.take_feedback(heappop(self._to_say)[2])
            self._number += 1
            hard = self._random.gauss()
            if version and self._said == IN_SHADOW:
                self._answer(INCUMBENT, "", hard)
                self._answer_in_shadow(model, version, hard)
            else:
                self._answer(model, version, hard)
            yield number

    def _drawn(self, model: Model, hard: float) -> tuple[bool, str]:
        """Draw whether an answer is right, and what it says."""
        own = math.sqrt(CORRELATION) * hard + math.sqrt(1 - CORRELATION) * self._random.gauss()
        right = statistics.NormalDist().cdf(own) < model.right
        malformed = not right and self._random.random() < model.malformed
        return right, "?" if malformed else RIGHT if right else WRONG

    def _answer_in_shadow(self, model: Model, version: str, hard: float) -> None:
        right, answer = self._drawn(model, hard)
        self.watches.take_shadow(
            Shadow(
                request_id=str(self._number),
                tenant="tenant",
                task="task",
                candidate_id="c",
                model="specialist",
                model_version=version,
                answered_at=self.now,
                answer=answer,
                finish_reason="stop",
                attempts=(_attempt(version),),
                bundle_version="b",
                sensitivity=Sensitivity.INTERNAL,
                sum_logprob=-_doubt(model.sure, right, self._random),
            )
        )

    def _answer(self, model: Model, version: str, hard: float) -> None:
        right, answer = self._drawn(model, hard)
        tier = "specialist" if version else "small"
        name = "specialist" if version else "small"
        interaction = Interaction(
            request_id=str(self._number),
            phase="finished",
            tenant="tenant",
            application="application",
            task="task",
            received_at=self.now,
            finished_at=self.now,
            messages=(Message(role="user", content="?"),),
            answer=answer,
            finish_reason="stop",
            model=name,
            model_version=version,
            tier=tier,
            attempts=(_attempt(version),),
            bundle_version="b",
            sensitivity=Sensitivity.INTERNAL,
            sum_logprob=-_doubt(model.sure, right, self._random),
        )
        self.watches.take_interaction(interaction)
        if self._said in ("outcomes", IN_SHADOW) and self._random.random() < 0.5:
            self._say("correct_answer", 5.0, RIGHT)
        if self._said in ("outcomes", "complaints") and self._random.random() < (0.03 if right else 0.3):
            self._say("asked_again", self._random.expovariate(1 / 12))

    def _say(self, kind: str, after_seconds: float, text: str = "") -> None:
        at = self.now + timedelta(seconds=after_seconds)
        feedback = Feedback(
            feedback_id="f",
            request_id=str(self._number),
            tenant="tenant",
            application="application",
            given_at=at,
            source="explicit",
            kind=kind,
            text=text,
        )
        heappush(self._to_say, (at, self._number * 2 + (kind == "asked_again"), feedback))


def _attempt(version: str) -> Attempt:
    name = "specialist" if version else "small"
    return Attempt(model=name, model_version=version, tier=name, outcome="answered", start_us=0, duration_us=300_000)


def _doubt(sure: float, right: bool, random: Random) -> float:
    return math.exp(random.gauss(sure + (0 if right else 3), 1.9))


class FixedThresholds:
    """The rule that is held against the watches: it sees the same values."""

    def __init__(self) -> None:
        self._before: defaultdict[Signal, list[float]] = defaultdict(list)
        self._latest: defaultdict[Signal, deque[tuple[datetime, float]]] = defaultdict(deque)
        self._looked = BEGIN

    def learn(self, signal: Signal, value: float) -> None:
        """Take a value of what was before."""
        self._before[signal].append(value)

    def observe(self, signal: Signal, value: float, now: datetime) -> None:
        """Take one of the specialist's."""
        self._latest[signal].append((now, value))

    def rolls_back(self, now: datetime) -> bool:
        """Look, if it is time to."""
        if now - self._looked < timedelta(seconds=10):
            return False
        self._looked = now
        for signal, values in self._latest.items():
            while values and now - values[0][0] > timedelta(seconds=60):
                values.popleft()
            if len(values) < 20 or len(self._before[signal]) < 20:
                continue
            mean = statistics.geometric_mean if signal is DOUBT else statistics.fmean
            before, after = mean(self._before[signal]), mean([value for _, value in values])
            if after > 3 * before if signal is DOUBT else after > max(2 * before, before + 0.05):
                return True
        return False


def main() -> None:
    """Runs everything and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100, help="of each bad specialist in each traffic")
    parser.add_argument("--good-runs", type=int, default=100, help="of each good one")
    options = parser.parse_args()

    print(f"\nBad: rolled back within {MINUTE_REQUESTS} requests at {PER_SECOND}/s, of {options.runs} runs")
    print(f"  {'':76}{'the watches: share, median s, 95 %':>36}{'fixed thresholds':>30}")
    for name, model in BAD.items():
        for said in (*SAID, IN_SHADOW):
            found = [_run(model, said, seed, MINUTE_REQUESTS) for seed in range(options.runs)]
            columns = [_seconds([each[side] for each in found]) for side in (0, 1)]
            print(f"  {f'{name}; {said}':76}{columns[0]:>36}{columns[1]:>30}")
    print(
        f"\nGood: rolled back within {GOOD_REQUESTS:,} requests, of {options.good_runs:,} runs; promised: 1 % at most"
    )
    for name, model in GOOD.items():
        for said in (*SAID, IN_SHADOW):
            found = [_run(model, said, seed, GOOD_REQUESTS) for seed in range(options.good_runs)]
            counts = [sum(each[side] is not None for each in found) for side in (0, 1)]
            print(f"  {f'{name}; {said}':76}{counts[0]:>36}{counts[1]:>30}")


def _run(model: Model, said: str, seed: int, count: int) -> tuple[float | None, float | None]:
    """Returns the seconds after which the watches, and the fixed thresholds, roll a specialist back, if they do."""
    random = Random(seed)
    state = DesiredState(bundle=_BUNDLE)
    watches, rule = Watches(state, random.random), FixedThresholds()
    traffic = Traffic(watches, said, random)
    for _ in traffic.answers(INCUMBENT, "", BEFORE):
        pass
    traffic.now += timedelta(seconds=60)
    watches.look(traffic.now)
    deployment = _deployment(model, traffic.now, random, 0.0 if said == IN_SHADOW else 1.0)
    watches.take_deployment(deployment)
    _tap(watches, rule, lambda: traffic.now)
    found: list[float | None] = [None, None]
    for _ in traffic.answers(model, "1", count):
        seconds = (traffic.now - deployment.deployed_at).total_seconds()
        if found[0] is None and watches.look(traffic.now):
            found[0] = seconds
        if found[1] is None and rule.rolls_back(traffic.now):
            found[1] = seconds
        if None not in found:
            break
    return found[0], found[1]


def _tap(watches: Watches, rule: FixedThresholds, now: Callable[[], datetime]) -> None:
    """Shows the rule what the watch was shown, and is shown from now on."""
    watch = watches._watched["tenant/task"].watch
    (known,) = watches._known.values()
    for signal, values in known.values.items():
        for value in values if not signal.of_gate else ():
            rule.learn(signal, value)
    for answer in watches._watched["tenant/task"].deployment.candidate_answers:
        for signal, value in of_gate(answer):
            rule.learn(signal, value)
    observe = watch.observe

    def observe_too(signal: Signal, value: float, chance: float) -> None:
        observe(signal, value, chance)
        rule.observe(signal, value, now())

    watch.observe = observe_too  # type: ignore[method-assign] # of this one


def _deployment(model: Model, now: datetime, random: Random, share_of_callers: float) -> Deployment:
    sure = model.sure if model.gate_sure is None else model.gate_sure
    share = model.right if model.gate_right is None else model.gate_right
    answers = []
    for _ in range(GATE):
        right = random.random() < share
        answers.append(GateAnswer(right=right, sum_logprob=-_doubt(sure, right, random)))
    return Deployment(
        task_key="tenant/task",
        tenant="tenant",
        task="task",
        deployment_id="d",
        state="live",
        candidate_id="c",
        model="specialist",
        model_version="1",
        share=share_of_callers,
        deployed_at=now,
        reason="",
        candidate_answers=tuple(answers),
        false_rollbacks=0.01,
    )


def _seconds(found: list[float | None]) -> str:
    seconds = sorted(math.inf if each is None else each for each in found)
    median, late = (seconds[min(len(seconds) - 1, int(share * len(seconds)))] for share in (0.5, 0.95))
    share = sum(map(math.isfinite, seconds)) / len(seconds)
    return f"{share:.0%}, {_number(median)}, {_number(late)}"


def _number(seconds: float) -> str:
    return f"{seconds:.0f}" if math.isfinite(seconds) else "-"


_BUNDLE = Bundle.model_validate(
    {
        "tenants": {"tenant": {"region": "eu"}},
        "applications": {
            "application": {"tenant": "tenant", "key_sha256": ["0" * 64], "tasks": ["task"], "purpose": "p"}
        },
        "models": {"small": {"tier": "small", "served_as": "small", "max_tokens": 64, "region": "eu"}},
        "tasks": {
            "task": {
                "tenant": "tenant",
                "answers": "function-call",
                "generic_prompt": "g",
                "specialist_prompt": "s",
                "learning": {"labels_needed": 1, "rollout": {"shadow_requests": 10 * GOOD_REQUESTS}},
            }
        },
        "guardrails": {"default": []},
        "policies": {"all.cedar": "permit (principal, action, resource);"},
    }
)


if __name__ == "__main__":
    main()
