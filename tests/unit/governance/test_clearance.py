"""Cedar policies: what they decide, and what is refused before it is published."""

from pathlib import Path
from typing import Any

import pytest

from schemas.bundle import Bundle, InvalidBundleError, load_bundle
from schemas.events import Sensitivity
from services.governance.domain.clearance import Clearances

SAMPLE = load_bundle(Path(__file__).parents[3] / "deploy" / "bundle")
PERMIT = '@id("{}") permit (principal, action == Action::"see", resource){};'


def bundle(*policies: str, **parts: Any) -> Bundle:
    named = {f"{i}.cedar": policy for i, policy in enumerate(policies)}
    return Bundle.model_validate(SAMPLE.model_dump() | {"policies": named} | parts)


def cleared(bundle: Bundle, level: Sensitivity = Sensitivity.PUBLIC) -> tuple[tuple[str, ...], tuple[str, ...]]:
    clearance = Clearances(bundle).from_level("concierge", "consumer-services", level)[0]
    return clearance.models, clearance.policies


def test_what_no_policy_permits_is_forbidden() -> None:
    assert cleared(bundle(PERMIT.format("never", " when { context.sensitivity > 9 }"))) == ((), ())


def test_a_forbidding_policy_of_another_file_wins_and_is_named() -> None:
    forbid = '@id("not-small") forbid (principal, action, resource == Model::"small");'
    models, policies = cleared(bundle(PERMIT.format("all", ""), forbid))
    assert models == ("specialist",)
    assert set(policies) == {"all", "not-small"}


def test_of_a_model_that_is_not_cleared_it_is_said_who_forbids_it() -> None:
    only_specialist = '@id("own") permit (principal, action, resource == Model::"specialist");'
    forbid = '@id("no-specialist") forbid (principal, action, resource == Model::"specialist");'
    clearance = Clearances(bundle(only_specialist, forbid)).from_level(
        "concierge", "consumer-services", Sensitivity.PUBLIC
    )[0]
    assert clearance.forbidden == {"small": (), "specialist": ("no-specialist",)}


@pytest.mark.parametrize(
    "condition",
    [
        'principal.tenant == "customer-care"',
        'principal.purpose == "assistance"',
        'principal.region == "eu"',
        'context.task == "consumer-services"',
        'principal == Application::"concierge"',
    ],
)
def test_policies_may_speak_of_the_application_and_the_task(condition: str) -> None:
    assert cleared(bundle(PERMIT.format("x", f" when {{ {condition} }}")))[0] == ("small", "specialist")
    assert cleared(bundle(PERMIT.format("x", f" unless {{ {condition} }}")))[0] == ()


def test_the_specialist_is_of_the_tenants_region() -> None:
    far = {"small": SAMPLE.models["small"].model_dump() | {"region": "us"}}
    same_region = PERMIT.format("same-region", " when { resource.region == principal.region }")
    assert cleared(bundle(same_region, models=far))[0] == ("specialist",)


def test_a_policy_that_fails_clears_nothing() -> None:
    # 9223372036854775807 + 1 is beyond Cedar's integers; Cedar itself would pass the policy over.
    forbid = '@id("bad") forbid (principal, action, resource) when { context.sensitivity + 9223372036854775807 > 5 };'
    assert cleared(bundle(PERMIT.format("all", ""), forbid), Sensitivity.INTERNAL)[0] == ()


@pytest.mark.parametrize(
    ("policies", "reason"),
    [
        (["permit (principal action"], r"policies/0.cedar: .*unexpected token"),
        (
            [PERMIT.format("a", ""), PERMIT.format("b", ' when { resource.owner == "x" }')],
            "policies/1.cedar: .*`owner`",
        ),
        (["permit (principal, action, resource);"], "policies/0.cedar: policy 1 needs a name"),
        (
            [PERMIT.format("a", ""), PERMIT.format("a", "")],
            r'policies/1.cedar: @id\("a"\) is taken by policies/0.cedar',
        ),
        ([PERMIT.format("a", "") + PERMIT.format("a", "")], r'policies/0.cedar: @id\("a"\) stands there twice'),
        (['@id("a") permit (principal == ?principal, action, resource);'], "policies/0.cedar: .*principal"),
        (['@id("a") permit (principal, action == Action::"hear", resource);'], "policies/0.cedar: .*hear"),
    ],
)
def test_policies_that_would_not_do_what_they_seem_to_are_refused(policies: list[str], reason: str) -> None:
    with pytest.raises(InvalidBundleError, match=reason):
        Clearances(bundle(*policies))


def test_no_model_may_take_the_specialists_name() -> None:
    taken = {"specialist": SAMPLE.models["small"].model_dump()}
    with pytest.raises(InvalidBundleError, match=r"models.specialist"):
        Clearances(bundle(PERMIT.format("a", ""), models=taken))
