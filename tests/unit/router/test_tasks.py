"""What a request is for where its application did not say; embedded here by counting words."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from schemas.bundle import Bundle
from services.router.domain.tasks import TaskClassifier
from services.runtime.embeddings import Background, Space
from services.runtime.errors import Fatal
from tests.unit.router.fakes import Stack, ask, bundle

WORDS = ["light", "lamp", "room", "chat", "friend", "talk", "train", "ticket"]
EXAMPLES = {
    "chat": ("talk to me", "be a friend and talk", "chat with me", "let us chat friend", "talk with a friend"),
    "calls": ("light in the room", "lamp on", "turn the lamp off in the room", "light on", "lamp in this room"),
}


def embed(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    return np.array([[text.lower().split().count(word) for word in WORDS] for text in texts], np.float32)


def space() -> Space:
    ordinary = embed(["train ticket", "a train", "one ticket please", "train room", "friend ticket", "lamp train"] * 10)
    covariance = np.cov(ordinary.T) + 0.1 * np.eye(len(WORDS))
    return Space(embed, Background(ordinary.mean(axis=0), np.linalg.inv(covariance).astype(np.float32), ordinary))


def with_examples(**examples: Sequence[str]) -> Bundle:
    content: dict[str, Any] = bundle().model_dump()
    for task, texts in examples.items():
        content["tasks"][task]["examples"] = texts
    return Bundle.model_validate(content)


def stack_with(**examples: Sequence[str]) -> Stack:
    stack = Stack()
    changed = with_examples(**examples)
    stack.catalogue = replace(stack.catalogue, bundle=changed, tasks=TaskClassifier(changed, space))
    return stack


@pytest.mark.parametrize(
    ("said", "task", "task_by"),
    [
        ("Turn the light on in my room", "calls", "classifier"),
        ("Can we talk , friend", "chat", "classifier"),
        ("A ticket for the train", "chat", "unknown"),
        ("Completely different", "chat", "unknown"),
    ],
)
async def test_a_task_is_told_by_the_examples_or_honestly_not(said: str, task: str, task_by: str) -> None:
    stack = stack_with(**EXAMPLES)
    await stack.router.complete(stack.call(), ask(said))
    assert (stack.recorder.last.task, stack.recorder.last.task_by) == (task, task_by)


async def test_the_last_user_turn_says_what_a_request_is_for() -> None:
    stack = stack_with(**EXAMPLES)
    await stack.router.complete(stack.call(), ask("Can we talk , friend", "Now the light in the room"))
    assert stack.recorder.last.task == "calls"


async def test_the_callers_word_counts_more() -> None:
    stack = stack_with(**EXAMPLES)
    await stack.router.complete(stack.call(), ask("light in the room", task="chat"))
    assert (stack.recorder.last.task, stack.recorder.last.task_by) == ("chat", "caller")
    await stack.router.complete(stack.call(), ask("talk to me", model="calls"))
    assert (stack.recorder.last.task, stack.recorder.last.task_by) == ("calls", "caller")


async def test_without_examples_it_is_the_applications_first_task_and_no_embeddings_are_loaded() -> None:
    stack = Stack()
    await stack.router.complete(stack.call(), ask("light in the room"))
    assert (stack.recorder.last.task, stack.recorder.last.task_by) == ("chat", "default")


def test_examples_without_embeddings_are_no_bundle_that_can_be_used() -> None:
    def missing() -> Space:
        raise Fatal("token-embeddings is missing")

    with pytest.raises(Fatal):
        TaskClassifier(with_examples(**EXAMPLES), missing)


def test_a_task_has_no_examples_or_enough() -> None:
    with pytest.raises(ValueError, match="examples: wanted 5 or more"):
        with_examples(chat=["talk to me"])
