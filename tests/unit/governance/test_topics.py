"""Topics that a tenant forbids, told by examples; embedded here by counting words."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from schemas.bundle import Guardrail
from services.governance.domain.guardrails import Guardrails
from services.runtime.embeddings import Background, Space

WORDS = ["shares", "invest", "bonds", "chair", "order", "shop", "deliver", "the", "should", "i"]
ORDINARY = "Deliver the chair of my order to the shop please. "
ABOUT = "Should I invest in shares or bonds now? "
EXAMPLES = (
    "Should I invest in bonds?",
    "Which shares should I invest in?",
    "Are bonds better than shares?",
    "Invest the money in shares?",
    "How many shares should I buy?",
)


def embed(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    return np.array([[text.lower().count(word) / len(text.split()) for word in WORDS] for text in texts], np.float32)


def space() -> Space:
    choose = np.random.default_rng(0)
    words = np.array([*ORDINARY.split(), "should", "I", "shares"])
    requests = embed([" ".join(choose.choice(words, 12)) for _ in range(400)])
    covariance = np.cov(requests.T) + 0.001 * np.eye(len(WORDS))
    return Space(embed, Background(requests.mean(axis=0), np.linalg.inv(covariance).astype(np.float32), requests))


def found_in(text: str, **more: object) -> list[str]:
    guardrail = {"detect": ["topic"], "topic": "investments", "texts": EXAMPLES, "action": "flag", **more}
    findings = Guardrails([Guardrail.model_validate(guardrail)], space()).screen([text]).findings
    return [f"{finding.kind} {text[finding.start : finding.end]}" for finding in findings]


@pytest.mark.parametrize("text", [ABOUT, f"{ORDINARY * 20}{ABOUT * 4}{ORDINARY * 20}"])
def test_what_is_about_a_topic_is_found_by_the_topics_name(text: str) -> None:
    (found,) = found_in(text)
    assert found.startswith("topic:investments ")
    assert "invest in shares" in found


@pytest.mark.parametrize("text", ["", " ", ORDINARY, ORDINARY * 30])
def test_what_is_about_something_else_is_not(text: str) -> None:
    assert found_in(text) == []


def test_the_application_may_tell_its_model_about_a_topic() -> None:
    guardrail = Guardrail(detect=("topic",), topic="investments", texts=EXAMPLES, action="refuse")
    assert Guardrails([guardrail], space()).screen([ABOUT], instructions={0}).findings == ()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"topic": None}, "topic"),
        ({"texts": EXAMPLES[:4]}, "texts"),
        ({"action": "mask"}, "action"),
        ({"detect": ["email"]}, "topic"),
        ({"detect": ["topic", "email"]}, "texts"),
    ],
)
def test_a_topic_needs_a_name_and_examples_and_has_no_ends_to_mask(changes: dict[str, object], field: str) -> None:
    with pytest.raises(ValueError, match=f"{field}: "):
        found_in(ABOUT, **changes)
