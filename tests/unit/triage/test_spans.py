import pytest

from schemas.events import Finding
from services.triage.domain.spans import Part, elsewhere, on_record, parts


def _finding(kind: str, action: str, start: int, end: int) -> Finding:
    return Finding(direction="output", kind=kind, action=action, start=start, end=end)


WROTE = "Ask ann@example.org or bob@example.org, both at Contoso."
RECORDED = "Ask <EMAIL_1> or <EMAIL_2>, both at Contoso."
MASKED = (_finding("email", "mask", 4, 19), _finding("email", "mask", 23, 38))


def _texts(findings: tuple[Finding, ...], answer: str) -> list[str]:
    return [answer[each.start : each.end] for each in findings]


def test_findings_move_with_the_placeholders_before_them() -> None:
    named = _finding("denied", "flag", WROTE.index("Contoso"), WROTE.index("Contoso") + 7)
    assert _texts(on_record((*MASKED, named), RECORDED), RECORDED) == ["<EMAIL_1>", "<EMAIL_2>", "Contoso"]


def test_a_finding_that_reaches_over_a_placeholder_holds_it_whole() -> None:
    across = _finding("leak", "flag", 10, 30)  # from within the first address to within the second
    assert _texts(on_record((*MASKED, across), RECORDED), RECORDED)[-1] == "<EMAIL_1> or <EMAIL_2>"


@pytest.mark.parametrize("answer", ["", "Ask somebody else."])
def test_findings_of_an_answer_that_is_not_on_record_have_no_place(answer: str) -> None:
    assert {(each.start, each.end) for each in on_record(MASKED, answer)} == {(0, 0)}


def test_a_text_is_shown_in_parts_that_join_to_it_and_say_what_was_found() -> None:
    findings = (_finding("email", "mask", 4, 9), _finding("leak", "flag", 7, 12))
    shown = parts("Ask <E_1> now", findings)
    assert shown == (
        Part("Ask "),
        Part("<E_", ("email: masked",)),
        Part("1>", ("email: masked", "leak: flagged")),
        Part(" no", ("leak: flagged",)),
        Part("w"),
    )
    assert parts("", findings) == ()


def test_what_is_of_the_whole_text_is_named_beside_it() -> None:
    findings = (_finding("toxicity", "flag", 0, 4), _finding("email", "mask", 0, 0), _finding("id", "flag", 0, 2))
    assert elsewhere("Damn", findings) == ("toxicity: flagged", "email: masked")
    assert parts("Damn", findings) == (Part("Da", ("id: flagged",)), Part("mn"))
