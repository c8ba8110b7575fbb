"""An operator's own cases, and what is said when one is decided otherwise."""

from pathlib import Path

import pytest

from schemas.bundle import InvalidBundleError, load_bundle
from services.governance.cases import Case, differences, load_cases
from services.governance.handlers import Rules

SAMPLE = load_bundle(Path(__file__).parents[3] / "deploy" / "bundle")
RULES = Rules(SAMPLE.version, SAMPLE, space=None)


def told(expect: dict[str, object], **case: object) -> list[str]:
    given = {"application": "concierge", "request": "Write to jo@example.com", "expect": expect, **case}
    return differences(RULES, Case.model_validate(given))


@pytest.mark.parametrize(
    ("expect", "difference"),
    [
        ({"verdict": "pass"}, "verdict: wanted pass, is mask"),
        ({"found": []}, "found: wanted none, is email"),
        ({"text": "Write to <EMAIL_2>"}, "text: wanted Write to <EMAIL_2>, is Write to <EMAIL_1>"),
        ({"sensitivity": "public"}, "sensitivity: wanted public, is confidential"),
        ({"cleared": ["large"]}, "cleared: wanted large, is small, specialist"),
        ({"policies": ["same-region", "own"]}, "policies: wanted own, same-region, is same-region"),
    ],
)
def test_each_thing_that_is_decided_otherwise_is_told(expect: dict[str, object], difference: str) -> None:
    assert told(expect) == [difference]


def test_what_is_decided_as_expected_is_not() -> None:
    expect = {"verdict": "mask", "found": ["email"], "sensitivity": "confidential", "cleared": ["specialist", "small"]}
    assert told(expect) == []


def test_what_context_would_add_raises_the_sensitivity_and_never_lowers_it() -> None:
    assert told({"sensitivity": "restricted", "cleared": ["specialist"]}, knowledge="restricted") == []
    assert told({"sensitivity": "confidential"}, knowledge="public") == []


def test_an_answer_is_held_to_what_the_model_was_told() -> None:
    answer = SAMPLE.tasks["consumer-services"].generic_prompt.upper()
    assert told({"verdict": "refuse", "found": ["leak"]}, request=None, answer=answer) == []
    assert told({"cleared": []}, request=None, answer="Hello") == ["cleared: an answer has none"]


@pytest.mark.parametrize(
    ("case", "difference"),
    [
        ({"application": "nobody"}, "'nobody' is not in bundle"),
        ({"task": "other"}, "task: must be one of consumer-services"),
    ],
)
def test_a_case_that_cannot_be_decided_says_why(case: dict[str, object], difference: str) -> None:
    (said,) = told({"verdict": "mask"}, **case)
    assert difference in said


def test_the_sample_bundle_decides_its_own_cases_as_they_say() -> None:
    cases = load_cases(Path(__file__).parents[3] / "deploy" / "bundle" / "cases.yaml")
    assert [name for name, case in cases.items() if differences(RULES, case)] == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {application: x, request: y}", "a.expect: Field required"),
        ("a: {application: x, request: y, expect: {verdict: maybe}}", "a.expect.verdict"),
        ("a: {application: x, request: y, expect: {verdict: pass}, extra: 1}", "a.extra"),
        ("a: {application: x, request: y, expect: {}}", "a.expect: .*wanted one or more of verdict"),
        ("a: {application: x, expect: {verdict: pass}}", "a: .*wanted either a request or an answer"),
        ("a: {application: x, request: y, answer: z, expect: {verdict: pass}}", "wanted either"),
        (
            "a: {application: x, answer: z, knowledge: public, expect: {verdict: pass}}",
            "knowledge: wanted with a request",
        ),
        ("a: {}\na: {}", "'a' stands there twice"),
        ("", "wanted cases, each under a name"),
        ("- a", "wanted cases, each under a name"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_file_of_cases_that_makes_no_sense_is_named_with_the_field(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "cases.yaml"
    path.write_text(text)
    with pytest.raises(InvalidBundleError, match=message):
        load_cases(path)
    with pytest.raises(InvalidBundleError, match="is missing"):
        load_cases(tmp_path / "none.yaml")
