"""What is taken for abuse."""

import pytest

from schemas.bundle import Guardrail
from services.governance.domain.guardrails import Finding, Guardrails

ORDINARY = "Please send two garden chairs to the store in Leeds and tell me when they arrive. "
INSULT = "You are a stupid idiot, go to hell!"


def found_in(text: str, **tuned: float) -> list[Finding]:
    guardrail = Guardrail.model_validate({"detect": ["toxicity"], "action": "flag", **tuned})
    return list(Guardrails([guardrail]).screen([text]).findings)


@pytest.mark.parametrize("text", [INSULT, INSULT.upper(), "I hate you, you disgusting pig."])
def test_abuse_is_found(text: str) -> None:
    assert [finding.kind for finding in found_in(text)] == ["toxicity"]


@pytest.mark.parametrize("text", ["", "?!", ORDINARY, ORDINARY * 50, "Kill the process and grill the chicken breasts."])
def test_an_ordinary_text_is_none(text: str) -> None:
    assert found_in(text) == []


def test_abuse_in_a_long_text_is_found_where_it_stands() -> None:
    text = f"{ORDINARY * 30}{INSULT} {ORDINARY * 30}"
    (finding,) = found_in(text)
    assert "idiot" in text[finding.start : finding.end]
    assert finding.end - finding.start < 400


def test_a_tenant_may_set_how_sure_the_classifier_must_be() -> None:
    assert found_in("This damn printer jams again", threshold=0.999) == []
    assert found_in("This damn printer jams again", threshold=0.5) != []
