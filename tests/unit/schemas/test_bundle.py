"""A bundle that an operator can publish is whole, and one that cannot says where and why."""

import shutil
from pathlib import Path

import pytest

from schemas.bundle import Bundle, InvalidBundleError, load_bundle

SAMPLE = Path(__file__).parents[3] / "deploy" / "bundle"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SAMPLE, tmp_path / "bundle"))


def test_the_sample_bundle_is_valid() -> None:
    assert "consumer-services" in load_bundle(SAMPLE).tasks


def test_the_same_files_are_the_same_version(folder: Path) -> None:
    assert load_bundle(folder).version == load_bundle(SAMPLE).version


def test_any_change_is_another_version(folder: Path) -> None:
    policy = folder / "policies" / "models.cedar"
    policy.write_text(policy.read_text() + "\n// reviewed")
    assert load_bundle(folder).version != load_bundle(SAMPLE).version


def test_it_survives_the_way_through_kafka() -> None:
    bundle = load_bundle(SAMPLE)
    again = Bundle.model_validate_json(bundle.model_dump_json())
    assert (again, again.version) == (bundle, bundle.version)


def test_a_task_s_word_on_routing_holds_in_place_of_its_tenant_s(folder: Path) -> None:
    tenants, tasks = folder / "tenants.yaml", folder / "tasks.yaml"
    assert load_bundle(folder).routing_of("consumer-services").bar == 0
    tenants.write_text(tenants.read_text().replace("region: eu", "region: eu\n  routing: {bar: 0.7}"))
    assert load_bundle(folder).routing_of("consumer-services").bar == 0.7
    tasks.write_text(tasks.read_text().replace("  learning:", "  routing: {latency_ms: 500}\n  learning:"))
    assert load_bundle(folder).routing_of("consumer-services").bar == 0
    assert load_bundle(folder).routing_of("consumer-services").latency_ms == 500


@pytest.mark.parametrize(
    ("file", "old", "new", "complaint"),
    [
        ("applications.yaml", "tenant: customer-care", "tenant: nobody", "applications.concierge.tenant: 'nobody'"),
        ("applications.yaml", "[consumer-services]", "[cooking]", "'cooking' is not in tasks.yaml"),
        ("tasks.yaml", "tenant: customer-care", "tenant: nobody", "tasks.consumer-services.tenant"),
        ("tenants.yaml", "share: 0.95", "share: 2", "tenants.customer-care.experts.share"),
        ("tenants.yaml", "share: 0.95", "sahre: 0.9", "sahre"),
        ("tasks.yaml", "labels_needed: 390", "labels_needed: 410\n    accepts: [disputed]", "learning.accepts.0"),
        ("tasks.yaml", "labels_needed: 390", "labels_needed: 410\n    accepts: []", "learning.accepts"),
        (
            "tasks.yaml",
            "labels_needed: 390",
            "labels_needed: 1\n    accepts: [agreed, agreed]",
            "accepts: wanted each once",
        ),
        ("tasks.yaml", "labels_needed: 390", "labels_needed: 1\n    personal_data: [name]", "learning.personal_data.0"),
        (
            "tasks.yaml",
            "labels_needed: 390",
            "labels_needed: 1\n    rollout: {canary_share: 0.1}",
            "tasks.consumer-services.learning.rollout: canary_requests: wanted with a canary_share",
        ),
        (
            "tasks.yaml",
            "labels_needed: 390",
            "labels_needed: 1\n    rollout: {canary_share: 0.1, canary_requests: 9, false_rollbacks: 0}",
            "tasks.consumer-services.learning.rollout: false_rollbacks: wanted above 0",
        ),
        (
            "tasks.yaml",
            "labels_needed: 390",
            "labels_needed: 1\n    rollout: {shadow_requests: 9, false_rollbacks: 0}",
            "tasks.consumer-services.learning.rollout: false_rollbacks: wanted above 0",
        ),
        (
            "tasks.yaml",
            "  learning:",
            "  templates: [{name: A film, text: Alien}]\n  learning:",
            "tasks.consumer-services: templates.0.text: wanted a call as JSON",
        ),
        (
            "tasks.yaml",
            "  learning:",
            "  templates: [" + "{name: x, text: y}, " * 7 + "]\n  learning:",
            "tasks.consumer-services.templates",
        ),
        ("models.yaml", "tier: small", "tier: tiny", "models.small.tier"),
        (
            "models.yaml",
            "tier: small",
            "tier: small\n  price: {per_million_prompt_tokens: -1}",
            "models.small.price.per_million_prompt_tokens",
        ),
        ("tenants.yaml", "region: eu", "region: eu\n  routing: {bar: 1.5}", "tenants.customer-care.routing.bar"),
        (
            "tenants.yaml",
            "region: eu",
            "region: eu\n  routing: {exploration: 0.01}",
            "tenants.customer-care.routing: exploration_price: wanted with exploration",
        ),
        ("tasks.yaml", "  learning:", "  routing: {latency_ms: 0}\n  learning:", "tasks.consumer-services.routing"),
        ("models.yaml", "tier: small", "tier: specialist", "models.small.tier"),
        (
            "gate.yaml",
            "consumer-services:",
            "cooking:",
            "gate.cooking: wanted a task of tasks.yaml that has `learning`",
        ),
        ("gate.yaml", "never:", "answer: '{}'\n    never:", "gate.consumer-services.1: answer: wanted, or `never`"),
        ("gate.yaml", "    never: [You route store requests]\n", "", "gate.consumer-services.1: answer: wanted"),
        ("gate.yaml", "answer: '{", "answer: '[{", "gate.consumer-services.0.answer: wanted a call as JSON"),
        ("gate.yaml", "- name: Weather_1", "- nome: Weather_1", "gate.consumer-services.0.tools.0.name"),
        ("guardrails.yaml", "email,", "e-mail,", "guardrails.default.0.detect.4"),
        ("guardrails.yaml", "default:", "customer-care:", "guardrails.default: wanted"),
        ("guardrails.yaml", "default:", "default: []\nnobody:", "guardrails.nobody: 'nobody' is not in tenants.yaml"),
        ("guardrails.yaml", "[denied]", "[denied, card]", "guardrails.default: card is looked for twice in one input"),
        ("guardrails.yaml", "[denied]", "[]", "guardrails.default.4.detect"),
        ("guardrails.yaml", "    texts:", "    txts:", "guardrails.default.4.txts"),
        ("guardrails.yaml", "email, phone]", "email, phone, denied]", "texts: wanted with `denied`"),
        ("guardrails.yaml", "action: refuse", "action: require", "sensitivity: wanted"),
        ("guardrails.yaml", "action: mask", "action: require", "directions: wanted no output"),
        (
            "guardrails.yaml",
            "action: mask",
            "directions: [output]\n    action: mask",
            "sensitivity: wanted none on output alone",
        ),
        ("guardrails.yaml", "[denied]", "[denied, denied]", "detect: wanted each kind once"),
        ("models.yaml", "small:", "small: [", "is not YAML"),
    ],
)
def test_a_wrong_field_is_named(folder: Path, file: str, old: str, new: str, complaint: str) -> None:
    path = folder / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(InvalidBundleError) as caught:
        load_bundle(folder)
    assert complaint in str(caught.value)


def test_two_applications_cannot_have_one_key(folder: Path) -> None:
    path = folder / "applications.yaml"
    entry = path.read_text().split("concierge:", 1)[1]
    path.write_text(f"{path.read_text()}\ncopy:{entry}")
    with pytest.raises(InvalidBundleError, match=r"applications.copy.key_sha256: .* is concierge"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("objectives", "field"),
    [
        ("{availability: 1}", "availability"),
        ("{latency: {ms: 0, share: 0.9}}", "latency.ms"),
        ("{latency: {ms: 800}}", "latency.share"),
    ],
)
def test_an_objective_leaves_a_budget_or_is_refused(folder: Path, objectives: str, field: str) -> None:
    path = folder / "applications.yaml"
    path.write_text(f"{path.read_text()}  objectives: {objectives}\n")
    with pytest.raises(InvalidBundleError, match=rf"applications\.concierge\.objectives\.{field}: "):
        load_bundle(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "tasks.yaml").unlink()
    with pytest.raises(InvalidBundleError, match=r"tasks\.yaml is missing"):
        load_bundle(folder)


def test_a_bundle_without_policies_is_refused(folder: Path) -> None:
    shutil.rmtree(folder / "policies")
    with pytest.raises(InvalidBundleError, match="policies"):
        load_bundle(folder)
