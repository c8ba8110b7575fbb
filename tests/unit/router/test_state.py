import json
from datetime import UTC, datetime

import msgspec
import pytest

from schemas.events import BundlePublished, Sensitivity, Specialist
from services.router.domain.catalogue import Catalogue
from services.router.experience import Experience
from services.router.state import Directory
from services.runtime.errors import Rejected, Retryable, Unauthenticated
from tests.unit.router.fakes import KEY, bundle, deployment, no_space

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def published(content: str, version: str = "b1") -> BundlePublished:
    return BundlePublished(version=version, published_at=NOW, content=content)


def test_before_the_first_bundle_nothing_is_known() -> None:
    with pytest.raises(Retryable, match="gyre policy push"):
        Directory(no_space, Experience(no_space)).catalogue()


def test_deployments_count_whether_they_come_before_the_bundle_or_after() -> None:
    directory = Directory(no_space, Experience(no_space))
    directory.take_deployment(deployment("chat"))
    directory.take_bundle(published(bundle().model_dump_json()))
    directory.take_deployment(deployment("calls"))
    catalogue = directory.catalogue()
    for task in ("chat", "calls"):
        assert catalogue.candidates("shop", task)[0].name == f"specialist-shop-{task}"
    directory.take_deployment(deployment("chat", state="none"))
    assert directory.catalogue().candidates("shop", "chat")[0].name == "small"
    assert catalogue.candidates("shop", "chat")[0].name == "specialist-shop-chat"  # as the request began


@pytest.mark.parametrize("content", ["", "{}", '{"tenants": 1}'])
def test_a_bundle_that_is_none_changes_nothing(content: str) -> None:
    directory = Directory(no_space, Experience(no_space))
    directory.take_bundle(published(bundle().model_dump_json()))
    with pytest.raises(Rejected, match="bundle b2 cannot be used"):
        directory.take_bundle(published(content, "b2"))
    assert directory.catalogue().version == "b1"


def test_a_bundle_with_a_bar_is_refused_where_no_embeddings_are() -> None:
    content = bundle().model_dump(mode="json")
    content["tenants"]["shop"]["routing"] = {"bar": 0.5}
    with pytest.raises(Rejected, match="token-embeddings"):
        Directory(no_space, Experience(no_space)).take_bundle(published(json.dumps(content)))


def test_a_key_belongs_to_one_application() -> None:
    directory = Directory(no_space, Experience(no_space))
    directory.take_bundle(published(bundle().model_dump_json()))
    catalogue = directory.catalogue()
    assert (catalogue.caller(KEY).application, catalogue.caller("another").application) == ("web", "teller")
    for wrong in ("", "A-KEY", KEY + " ", "x" * 100_000):
        with pytest.raises(Unauthenticated):
            catalogue.caller(wrong)


def canary(*before: Specialist) -> Catalogue:
    directory = Directory(no_space, Experience(no_space))
    directory.take_bundle(published(bundle().model_dump_json()))
    directory.take_deployment(msgspec.structs.replace(deployment("chat"), share=0.3, before=before))
    return directory.catalogue()


BEFORE = Specialist(
    candidate_id="c0",
    model_version="2",
    adapter_path="c0/adapter",
    system_prompt="You were the specialist.",
    response_schema="",
    sensitivity=Sensitivity.PUBLIC,
)


def test_a_canary_answers_its_share_of_the_callers_and_always_the_same() -> None:
    catalogue = canary(BEFORE)
    versions = [catalogue.candidates("shop", "chat", f"web/{number}")[0].version for number in range(2000)]
    assert set(versions) == {"2", "3"}
    assert versions.count("3") / 2000 == pytest.approx(0.3, abs=0.04)
    assert versions == [catalogue.candidates("shop", "chat", f"web/{number}")[0].version for number in range(2000)]


def test_the_others_are_answered_as_before_by_the_specialist_or_by_none() -> None:
    others = [who for number in range(20) if (who := f"web/{number}") and not is_canary(canary(BEFORE), who)]
    (before, *_) = canary(BEFORE).candidates("shop", "chat", others[0])
    assert before.deployment is not None
    assert (before.name, before.version, before.deployment.candidate_id) == ("specialist-shop-chat", "2", "c0")
    assert before.deployment.system_prompt == "You were the specialist."
    assert canary().candidates("shop", "chat", others[0])[0].name == "small"


def is_canary(catalogue: Catalogue, who: str) -> bool:
    return catalogue.candidates("shop", "chat", who)[0].version == "3"


def test_who_asks_for_a_canary_by_its_name_is_answered_by_it() -> None:
    assert canary(BEFORE).candidates("shop", "chat")[0].version == "3"
