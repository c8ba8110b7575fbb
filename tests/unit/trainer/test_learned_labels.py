"""Which labels start a run, and which it learns from, on fakes of the ports."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from schemas.events import Erasure
from services.trainer import handlers
from services.trainer.dataset import Reason, build_dataset, read_left_out, read_manifest
from tests.unit.trainer.fakes import NOW, TASK, TENANT, World, edge_case, label

LATER = NOW + timedelta(days=1)


async def test_a_run_starts_by_itself_at_enough_new_labels_and_not_again_for_the_same(world: World) -> None:
    world.label(*range(39))
    await world.training.start_what_is_due()
    assert world.training.runs() == []
    assert world.training.label_counts()[0] == (TENANT, TASK, 39, 40)
    world.label(39)
    for _ in range(3):
        await world.training.start_what_is_due()
    (first,) = world.training.runs()
    await world.ended(first.run_id)
    assert world.training.label_counts()[0] == (TENANT, TASK, 0, 40)
    world.label(*range(40, 79))
    await world.training.start_what_is_due()
    assert len(world.training.runs()) == 1
    world.label(79)
    await world.training.start_what_is_due()
    assert len(world.training.runs()) == 2


async def test_a_restart_does_not_start_a_run_for_the_same_labels(world: World) -> None:
    world.label(*range(40))
    await world.run()
    world.restart()
    world.training.resume()
    await world.training.start_what_is_due()
    assert len(world.training.runs()) == 1


async def test_what_is_held_out_is_never_trained_on(world: World) -> None:
    world.label(*range(40))
    await world.run()
    world.label(*range(40, 120))
    await world.run()
    first, second = world.announcer.told
    assert len(second.training_request_ids) > len(first.training_request_ids)
    assert set(first.holdout_request_ids) <= set(second.holdout_request_ids)
    assert not set(first.holdout_request_ids) & (world.learner.shown[0] | world.learner.shown[1])
    asked = {int(question.split()[-1].rstrip("?")) for question in world.models.questions}
    assert {f"request-{n:03}" for n in asked} == {*first.holdout_request_ids, *second.holdout_request_ids}


def _forget(world: World, *numbers: int, labels: bool = True) -> None:
    """What topics hold no longer when a process starts."""
    for number in numbers:
        world.knowledge.edge_cases.pop(f"request-{number:03}")
        if labels:
            world.knowledge.labels[TENANT, TASK].pop(f"request-{number:03}")
            world.knowledge.standings[TENANT, TASK].pop(f"request-{number:03}")


@pytest.mark.parametrize("labels", [True, False])
async def test_what_topics_hold_no_longer_is_learned_from_all_the_same(world: World, labels: bool) -> None:
    world.label(*range(40))
    first = await world.run()
    _forget(world, *range(20), labels=labels)
    world.label(*range(40, 60))
    second = await world.run()
    before, now = (read_manifest(world.artifacts / run.dataset) for run in (first, second))
    assert (now.replayed, now.rows) == (20, 60)
    assert set(before.label_ids) < set(now.label_ids)
    assert now.left_out == {}
    third = await world.run()
    assert third.dataset == second.dataset, "and on and on"


async def test_what_was_taken_back_erased_or_is_not_accepted_any_more_is_not_carried_on(world: World) -> None:
    world.label(*range(40))
    world.knowledge.take_label(label(3, label_id="second", expert="expert-2", labelled_at=LATER))
    await world.run()
    _forget(world, *range(4))
    world.knowledge.take_label(label(0, outcome="retracted", answer=""))
    world.knowledge.take_label(label(1, label_id="another", answer='{"name": "track", "arguments": {"order": 9}}'))
    world.knowledge.take_erasure(Erasure(request_id="request-002", erasure_id="e", tenant=TENANT, asked_at=NOW))
    after = read_manifest(world.artifacts / (await world.run()).dataset)
    assert (after.replayed, {f"label-00{n}" for n in range(4)} & set(after.label_ids)) == (1, {"label-003"})
    world.publish("b2", accepts=("agreed",), holdout_minimum=1)
    for number in range(10, 40):
        world.knowledge.take_label(label(number, label_id=f"second-{number}", expert="expert-2", labelled_at=LATER))
    after = read_manifest(world.artifacts / (await world.run()).dataset)
    assert (after.replayed, after.rows) == (1, 31)


async def test_labels_that_make_no_run_are_not_tried_again_until_there_are_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []
    build = build_dataset

    def counted(*args: Any, **kwargs: Any) -> Path:
        tries.append(1)
        return build(*args, **kwargs)

    monkeypatch.setattr(handlers, "build_dataset", counted)
    world.publish(holdout_minimum=30)
    world.label(*range(40))
    for _ in range(3):
        await world.training.start_what_is_due()
    assert len(tries) == 1
    world.label(40)
    await world.training.start_what_is_due()
    assert len(tries) == 2
    world.publish("b2", holdout_minimum=8)
    await world.training.start_what_is_due()
    assert len(world.training.runs()) == 1


async def test_a_label_that_changes_no_dataset_starts_no_run(world: World) -> None:
    world.publish(labels_needed=1)
    world.label(*range(40))
    await world.training.start_what_is_due()
    await world.ended(world.training.runs()[0].run_id)
    # The same words again, with the same answer, labelled before: the label that is in the dataset stands.
    world.knowledge.take_edge_case(edge_case(40, messages=edge_case(7).messages))
    world.knowledge.take_label(label(40, labelled_at=label(0).labelled_at, answer=label(7).answer))
    await world.training.start_what_is_due()
    assert len(world.training.runs()) == 1


async def test_a_label_that_refinement_left_out_is_no_new_one(world: World) -> None:
    world.label(*range(40))
    world.label(40, answer='{"name": "track", "arguments": {"order": "forty"}}')
    world.label(41, outcome="unsafe", answer="")
    run = await world.run()
    assert (run.training_rows + run.holdout_rows, world.training.label_counts()[0]) == (40, (TENANT, TASK, 0, 40))
    left_out = read_left_out(world.artifacts / run.dataset)
    assert {each.label_id: each.reason for each in left_out} == {
        "label-040": Reason.TOOL_SCHEMA,
        "label-041": Reason.UNSAFE,
    }


async def test_a_label_that_was_taken_back_is_in_no_later_dataset(world: World) -> None:
    world.label(*range(40))
    before = await world.run()
    (told,) = world.announcer.told
    gone = told.training_request_ids[0]
    taken_back = label(int(gone.removeprefix("request-")), outcome="retracted", answer="", labelled_at=NOW)
    world.knowledge.take_label(taken_back)
    after = await world.run()
    assert after.training_rows == before.training_rows - 1
    assert set(world.announcer.told[1].training_request_ids) == {*told.training_request_ids} - {gone}
    assert gone not in world.learner.shown[1]


async def test_labels_that_the_bundle_does_not_accept_do_not_start_a_run(world: World) -> None:
    world.publish("b2", accepts=("agreed",))
    world.label(*range(40))
    assert world.training.label_counts()[0] == (TENANT, TASK, 0, 40)
    for number in range(30):
        world.knowledge.take_label(label(number, label_id=f"second-{number}", expert="expert-2", labelled_at=LATER))
    assert world.training.label_counts()[0] == (TENANT, TASK, 30, 40)


async def test_another_expert_who_agrees_makes_nothing_new_to_learn(world: World) -> None:
    world.label(*range(40))
    await world.run()
    for number in range(40):
        world.knowledge.take_label(label(number, label_id=f"second-{number}", expert="expert-2", labelled_at=LATER))
    assert world.training.label_counts()[0] == (TENANT, TASK, 0, 40)
