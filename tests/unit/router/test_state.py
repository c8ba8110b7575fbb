import json
from datetime import UTC, datetime

import pytest

from schemas.events import BundlePublished
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
