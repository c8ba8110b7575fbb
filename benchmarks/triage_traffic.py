"""Interactions for `benchmarks.triage`, and what experts have said of others before them.

Questions, tools and right answers are those of `gyre.demo.traffic` (live requests of BFCL), over and over, as the
applications of many stores ask them: each names its store, order and ticket, so that two are hardly ever the same. One
in twenty repeats an earlier one word by word. How likely models find their answers is drawn.
"""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import cycle, islice
from pathlib import Path

from benchmarks.edge_case_traffic import messages_of, tools_of
from gyre.demo.traffic import TrafficRequest, traffic
from schemas.bundle import Bundle, Experts, load_bundle
from schemas.events import Attempt, EdgeCase, Interaction, Label, Message, RouteCandidate, Sensitivity, Stage
from services.runtime.clock import Clock
from services.triage.domain.neighbours import REMEMBERED

SHARE, EXPLORATION, AGAIN = 0.2, 0.05, 0.05
PAUSE = timedelta(milliseconds=20)
TASKS = ("consumer-services", "personal-assistant", "business-operations")
STAGES = ("data-prep", "governance", "context-stitching", "policy", "routing", "inference", "monitoring", "audit")


def bundle() -> Bundle:
    """Return the sample bundle with all tasks of the traffic, of which experts are asked about a fifth."""
    sample = load_bundle(Path("deploy/bundle"))
    ((name, task),) = sample.tasks.items()
    tenant = sample.tenants[task.tenant].model_copy(update={"experts": Experts(share=SHARE, exploration=EXPLORATION)})
    assert name == TASKS[0]
    return sample.model_copy(
        update={"tenants": {task.tenant: tenant}, "tasks": dict.fromkeys(TASKS, task), "version": "benchmark"}
    )


def interactions(count: int, seed: int = 1) -> Iterator[Interaction]:
    """Yield so many interactions, finished, each some milliseconds after the one before."""
    chance, clock = random.Random(seed), Clock()
    tenant, at = next(iter(bundle().tenants)), datetime.now(UTC)
    asked: list[tuple[TrafficRequest, tuple[Message, ...]]] = []
    for request in islice(cycle(traffic()), count):
        at += PAUSE
        if asked and chance.random() < AGAIN:
            request, messages = chance.choice(asked)
        else:
            messages = _of_a_store(messages_of(request), chance)
            asked = [*asked[-999:], (request, messages)]
        yield _interaction(clock.new_id(), tenant, request, messages, at, chance)


def _of_a_store(messages: tuple[Message, ...], chance: random.Random) -> tuple[Message, ...]:
    more = (
        f"Store {chance.randrange(1600)}, order W{chance.randrange(10**6, 10**7)}, "
        f"ticket {chance.randrange(10**5)}, customer {chance.randrange(10**5)}."
    )
    return (*messages[:-1], Message(role="user", content=f"{messages[-1].content} {more}"))


def _interaction(
    request_id: str,
    tenant: str,
    request: TrafficRequest,
    messages: tuple[Message, ...],
    at: datetime,
    chance: random.Random,
) -> Interaction:
    doubt = chance.expovariate(2.0)
    return Interaction(
        request_id=request_id,
        phase="finished",
        tenant=tenant,
        application="handheld",
        task=request.task,
        task_by="caller",
        user=f"u-{chance.randrange(5000)}",
        received_at=at,
        finished_at=at,
        messages=messages,
        tools=tools_of(request),
        language="en",
        answer=request.expected_call_json,
        finish_reason="stop",
        model="specialist",
        model_version="3",
        tier="specialist",
        candidates=tuple(
            RouteCandidate(model=name, tier=name, cleared=True, live=True, chosen=name == "specialist", reason="ok")
            for name in ("specialist", "small", "large")
        ),
        attempts=(
            Attempt(
                model="specialist",
                tier="specialist",
                outcome="answered",
                start_us=5000,
                duration_us=chance.randrange(10**6),
            ),
        ),
        bundle_version="benchmark",
        sensitivity=Sensitivity.INTERNAL,
        prompt_tokens=612,
        completion_tokens=34,
        sum_logprob=-doubt,
        mean_logprob=-doubt / 34,
        min_logprob=-doubt / 2,
        name_logprob=-doubt / 5,
        total_us=chance.randrange(10**6),
        stages=tuple(
            Stage(name=name, start_us=1000 * place, duration_us=chance.randrange(900))
            for place, name in enumerate(STAGES)
        ),
    )


def said_before(seed: int = 2) -> Iterator[tuple[EdgeCase, Label]]:
    """Yield as much as triage remembers of each task: what experts were asked, and said."""
    chance, left = random.Random(seed), dict.fromkeys(TASKS, REMEMBERED)
    for each in interactions(8 * len(TASKS) * REMEMBERED, seed):
        if not left[each.task]:
            continue
        left[each.task] -= 1
        yield _edge_case(each), _label(each, chance.random() < 0.3)
        if not any(left.values()):
            return


def _edge_case(interaction: Interaction) -> EdgeCase:
    return EdgeCase(
        request_id=interaction.request_id,
        tenant=interaction.tenant,
        task=interaction.task,
        flagged_at=interaction.received_at,
        score=0.5,
        threshold=0.4,
        explored=False,
        propensity=1.0,
        messages=interaction.messages,
        answer=interaction.answer,
        model=interaction.model,
        model_version=interaction.model_version,
        sensitivity=interaction.sensitivity,
        bundle_version=interaction.bundle_version,
    )


def _label(interaction: Interaction, failed: bool) -> Label:
    return Label(
        label_id=f"label of {interaction.request_id}",
        request_id=interaction.request_id,
        tenant=interaction.tenant,
        task=interaction.task,
        expert="ann",
        labelled_at=interaction.finished_at,
        outcome="corrected" if failed else "confirmed",
        model_answer=interaction.answer,
        sensitivity=interaction.sensitivity,
        bundle_version=interaction.bundle_version,
        question=interaction.messages[-1].content,
        model=interaction.model,
        model_version=interaction.model_version,
        propensity=0.2,
        share=0.2,
    )
