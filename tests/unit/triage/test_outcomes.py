"""What labels and feedback say of the model that answered."""

from typing import Any

import pytest

from schemas.events import Message
from services.triage.domain.outcomes import of_feedback, of_label
from services.triage.domain.texts import QUESTION_CHARACTERS
from tests.unit.triage.builders import CALL, NOW, bundle, edge_case, feedback, interaction, label

BUNDLE = bundle()


@pytest.mark.parametrize(("said", "success"), [("confirmed", 1.0), ("corrected", 0.0), ("unsafe", 0.0)])
def test_a_label_says_whether_the_answer_was_right_and_how_likely_it_was_asked_for(said: str, success: float) -> None:
    told = label(outcome=said, propensity=0.3, model_version="1", turns=1, tools=1)
    outcome = of_label(told, BUNDLE)
    assert outcome is not None
    assert (outcome.success, outcome.propensity, outcome.source) == (success, 0.3, "label")
    assert (outcome.model, outcome.model_version, outcome.tier) == ("small", "1", "small")
    assert (outcome.question, outcome.turns, outcome.tools) == ("Find me a film", 1, 1)
    assert outcome.found_at == NOW


@pytest.mark.parametrize(
    "changes",
    [
        {"outcome": "skipped"},
        {"outcome": "retracted"},
        {"outcome": "escalated"},
        {"kind": "overlap"},
        {"kind": "adjudication"},
        {"kind": "gold"},
        {"kind": "imported"},
        {"model_answer": ""},
        {"model": ""},
    ],
)
def test_what_is_no_first_judgement_of_a_models_answer_says_nothing_of_it(changes: dict[str, Any]) -> None:
    assert of_label(label(**changes), BUNDLE) is None


def test_a_model_that_is_not_the_bundles_is_a_specialist() -> None:
    outcome = of_label(label(model="specialist-a-b"), BUNDLE)
    assert outcome is not None
    assert outcome.tier == "specialist"


@pytest.mark.parametrize(
    ("given", "success"),
    [
        ({"rating": -1.0}, 0.025),
        ({"rating": 0.0}, 0.5),
        ({"rating": 1.0}, 0.975),
        ({"kind": "edit", "rating": None, "text": CALL}, 1.0),
        ({"kind": "correct_answer", "rating": None, "text": "nothing of it at all"}, 0.12),
        ({"kind": "asked_again", "rating": None}, 0.4),
    ],
)
def test_feedback_leaves_doubt(given: dict[str, Any], success: float) -> None:
    for asked in (interaction(), edge_case()):
        outcome = of_feedback(feedback(**given), asked, BUNDLE)
        assert outcome is not None
        assert outcome.success == pytest.approx(success, abs=0.07)
        assert (outcome.source, outcome.propensity) == ("feedback", 1.0)


def test_feedback_in_the_application_s_words_or_of_another_tenant_says_nothing() -> None:
    assert of_feedback(feedback(kind="outcome", rating=None, text="sold"), interaction(), BUNDLE) is None
    assert of_feedback(feedback(tenant="another"), interaction(), BUNDLE) is None


def test_of_a_conversation_the_beginning_of_the_last_question_is_told() -> None:
    said = [("user", "first"), ("assistant", "yes"), ("user", "x" * 5000), ("tool", "result")]
    asked = interaction(messages=tuple(Message(role=role, content=content) for role, content in said))
    outcome = of_feedback(feedback(), asked, BUNDLE)
    assert outcome is not None
    assert (outcome.question, outcome.turns) == ("x" * QUESTION_CHARACTERS, 4)
