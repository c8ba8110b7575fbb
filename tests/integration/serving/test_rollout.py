"""A specialist that went live, its traffic on the topics as the router writes it, and what serving makes of that."""

import asyncio
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from uuid_utils import uuid7

from schemas.bundle import Learning, Rollout, load_bundle
from schemas.events import (
    Attempt,
    BundlePublished,
    Deployment,
    Event,
    Feedback,
    GateAnswer,
    Interaction,
    Message,
    Sensitivity,
)
from tests.integration.serving.conftest import TENANT, Loop, until

pytestmark = pytest.mark.timeout(600)

RIGHT, WRONG = '{"name": "find", "arguments": {"place": "Rome"}}', '{"name": "find", "arguments": {"place": "Oslo"}}'
PER_SECOND = 5
# How sure the gate found its answers.
GATE = tuple(GateAnswer(right=n % 4 > 0, sum_logprob=-0.02 * 1.2**n) for n in range(40))


def answered(random: Random, task: str, by: Deployment | None, right: float, ago: float = 0.0) -> Sequence[Event]:
    """A healthy answer and what its application says is the correct one: the same as that, of so many a share."""
    at = datetime.now(UTC) - timedelta(seconds=ago)
    model, version, tier = (by.model, by.model_version, "specialist") if by is not None else ("small", "1", "small")
    interaction = Interaction(
        request_id=str(uuid7()),
        phase="finished",
        tenant=TENANT,
        application="concierge",
        task=task,
        received_at=at,
        finished_at=at,
        messages=(Message(role="user", content="Find it."),),
        answer=RIGHT if random.random() < right else WRONG,
        finish_reason="stop",
        model=model,
        model_version=version,
        tier=tier,
        candidate_id=by.candidate_id if by is not None else "",
        attempts=(
            Attempt(model=model, model_version=version, tier=tier, outcome="answered", start_us=0, duration_us=300_000),
        ),
        bundle_version="b1",
        sensitivity=Sensitivity.INTERNAL,
        sum_logprob=random.choice(GATE).sum_logprob,
    )
    feedback = Feedback(
        feedback_id=str(uuid7()),
        request_id=interaction.request_id,
        tenant=TENANT,
        application="concierge",
        given_at=at + timedelta(seconds=1),
        source="explicit",
        kind="correct_answer",
        text=RIGHT,
    )
    return interaction, feedback


async def many(
    loop: Loop, count: int, random: Random, task: str, by: Deployment | None, right: float, ago: float = 0.0
) -> None:
    """Write so many answers, and what is said of them, at once."""
    await loop.send(*(event for _ in range(count) for event in answered(random, task, by, right, ago)))


async def goes_live(loop: Loop, task: str, share: float = 1.0) -> Deployment:
    """Make a specialist live in a task whose generic model gets 60 % right."""
    await many(loop, 200, Random(1), task, None, 0.6, 60.0)
    await loop.tell(task, loop.adapter(task), task=task, candidate_answers=GATE)
    return await loop.live(task, task, share)


async def rolled_back(loop: Loop, task: str) -> Deployment:
    async def gone() -> Deployment | None:
        newest = await loop.newest(task)
        return newest if newest is not None and newest.state == "none" else None

    return await until(gone)


async def test_a_bad_specialist_forced_live_is_rolled_back_within_300_requests_on_quality_alone(
    loop: Loop,
) -> None:
    bad = await goes_live(loop, "rollout-bad")
    random, asked = Random(2), 0
    back = asyncio.create_task(rolled_back(loop, "rollout-bad"))
    while not back.done():
        assert asked < 60 * PER_SECOND
        await loop.send(*answered(random, "rollout-bad", bad, 0.1))
        asked += 1
        await asyncio.sleep(1 / PER_SECOND)
    deployment = await back
    assert (deployment.state, deployment.candidate_id) == ("none", "")
    assert deployment.reason.startswith("rolled back by itself: answers that were not the correct one: 0.9")
    assert "of what it replaced 0.39 (mean of 200)" in deployment.reason
    await loop.is_gone(bad.model, bad.model_version)


async def test_a_good_one_is_not_until_it_becomes_bad(loop: Loop) -> None:
    good = await goes_live(loop, "rollout-good")
    random = Random(3)
    await many(loop, 600, random, "rollout-good", good, 0.6, 60.0)
    await asyncio.sleep(3)
    assert await loop.newest("rollout-good") == good
    await many(loop, 200, random, "rollout-good", good, 0.1)
    deployment = await rolled_back(loop, "rollout-good")
    said = re.search(r"answers that were not the correct one: 0\.\d+ \(mean of (\d+)\)", deployment.reason)
    assert said is not None
    assert int(said[1]) > 600, "all that it answered well was seen"


async def test_what_was_answered_while_serving_was_away_counts(loop: Loop) -> None:
    bad = await goes_live(loop, "rollout-away")
    loop.process.kill()
    await many(loop, 100, Random(4), "rollout-away", bad, 0.1)
    loop.process.start()
    await loop.process.serving()
    await rolled_back(loop, "rollout-away")


async def test_a_canary_that_answers_well_goes_live_for_all(loop: Loop) -> None:
    task = "rollout-canary"
    bundle = load_bundle(Path("deploy/bundle"))
    learning = Learning(labels_needed=1, rollout=Rollout(canary_share=0.2, canary_requests=30))
    tasks = {**bundle.tasks, task: bundle.tasks["consumer-services"].model_copy(update={"learning": learning})}
    bundle = bundle.model_copy(update={"tasks": tasks})
    content = bundle.model_dump_json()
    await loop.send(BundlePublished(version=bundle.version, published_at=datetime.now(UTC), content=content))
    canary = await goes_live(loop, task, share=0.2)
    await many(loop, 30, Random(5), task, canary, 0.6, 60.0)
    live = await loop.live(task, task)
    assert live.deployment_id != canary.deployment_id
    assert live.reason == "a canary for 20% of the callers: no worse in 30 answers than what was before"
    assert await loop.roll_back(task) == ""
