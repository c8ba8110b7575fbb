"""The search index, on the real tantivy and usearch; only the embeddings are stood in for."""

import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from schemas.events import Document, Sensitivity
from services.context.adapters import HybridIndex

MEANINGS = {"money": ("refund", "money", "reimburse"), "sky": ("rain", "weather", "sun"), "food": ("pizza", "dinner")}


class KnownMeanings:
    """Embeds a text by the meanings that its words have; a text without any is near to nothing but itself."""

    dimensions = 16

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return np.array([self._vector(text.lower()) for text in texts], dtype=np.float32)

    def _vector(self, text: str) -> list[float]:
        known = [float(sum(word in text for word in words)) for words in MEANINGS.values()]
        unknown = [0.0] * (self.dimensions - len(known))
        if not any(known):
            unknown[zlib.crc32(text.encode()) % len(unknown)] = 1.0
        return known + unknown


@pytest.fixture
def index() -> HybridIndex:
    embedder: Any = KnownMeanings()
    return HybridIndex(embedder, passage_tokens=50, candidates=10, minimum_similarity=0.9)


def document(
    name: str, text: str, tenant: str = "t", level: Sensitivity = Sensitivity.PUBLIC, **parts: Any
) -> Document:
    return Document(
        document_key=f"{tenant}/{name}",
        tenant=tenant,
        document_id=name,
        text=text,
        sensitivity=level,
        ingested_at=datetime.now(UTC),
        **parts,
    )


def found(index: HybridIndex, query: str, tenant: str = "t", level: Sensitivity = Sensitivity.RESTRICTED) -> list[str]:
    return [passage.document_id for passage in index.search(query, tenant, level)]


def test_a_passage_is_found_by_its_words_and_by_its_meaning(index: HybridIndex) -> None:
    index.update(
        [document("a", "Refund forms lie at the desk"), document("b", "Pizza on Friday"), document("c", "Lions")]
    )
    assert found(index, "a form, please") == ["a"]
    assert found(index, "who will reimburse me") == ["a"]
    assert found(index, "lion") == ["c"]
    assert found(index, "elephants") == []


def test_what_is_found_both_ways_comes_first(index: HybridIndex) -> None:
    index.update([document("words", "form form form"), document("both", "refund form"), document("meaning", "money")])
    assert found(index, "refund form")[0] == "both"
    assert set(found(index, "refund form")) == {"words", "both", "meaning"}


def test_a_title_is_searched_and_paid_for(index: HybridIndex) -> None:
    index.update([document("a", "Ask at the desk.", title="Lost parcels")])
    (passage,) = index.search("parcel", "t", Sensitivity.PUBLIC)
    assert (passage.title, passage.text, passage.tokens) == ("Lost parcels", "Ask at the desk.", 3 + 4)


def test_no_tenant_sees_anothers(index: HybridIndex) -> None:
    index.update([document("a", "refund form", tenant="t"), document("b", "refund form", tenant="other")])
    assert found(index, "refund form") == ["a"]
    assert found(index, "refund form", tenant="other") == ["b"]
    assert found(index, "refund form", tenant="nobody") == []


def test_nothing_above_the_level_is_found_and_nothing_above_it_crowds_out_what_may_be(index: HybridIndex) -> None:
    secret = [document(f"s{i}", "refund form", level=Sensitivity.RESTRICTED) for i in range(30)]
    index.update([*secret, document("p", "refund form in town with many other words", level=Sensitivity.INTERNAL)])
    assert found(index, "refund form", level=Sensitivity.CONFIDENTIAL) == ["p"]
    assert found(index, "refund form", level=Sensitivity.PUBLIC) == []


def test_a_document_written_again_takes_the_place_of_the_former(index: HybridIndex) -> None:
    index.update([document("a", "refund form")])
    index.update([document("a", "pizza dinner", level=Sensitivity.CONFIDENTIAL)])
    assert found(index, "refund form") == []
    assert found(index, "pizza dinner") == ["a"]
    assert found(index, "pizza dinner", level=Sensitivity.INTERNAL) == []


def test_of_two_versions_in_one_batch_the_later_counts(index: HybridIndex) -> None:
    index.update([document("a", "refund form"), document("a", "pizza dinner")])
    assert (found(index, "refund form"), found(index, "pizza dinner")) == ([], ["a"])


def test_a_deleted_document_is_gone(index: HybridIndex) -> None:
    index.update([document("a", "refund form")])
    index.update([document("a", "", deleted=True), document("never-there", "", deleted=True)])
    assert found(index, "refund form") == []


def test_a_long_document_is_found_in_parts(index: HybridIndex) -> None:
    text = "\n\n".join(["Refund forms lie at the desk. " * 5, "Pizza is served on Friday. " * 5])
    index.update([document("a", text)])
    passages = index.search("pizza", "t", Sensitivity.PUBLIC)
    assert len(passages) == 1
    assert passages[0].text.startswith("Pizza")


def test_a_passage_is_found_by_the_headings_that_it_lies_under(index: HybridIndex) -> None:
    index.update([document("a", "# Parcels\n\n## Abroad\n\nAsk the desk.\n\n# Letters\n\nNo.", title="Manual")])
    (passage,) = index.search("abroad", "t", Sensitivity.PUBLIC)
    assert (passage.title, passage.text) == ("Manual > Parcels > Abroad", "Ask the desk.")


def test_identifiers_are_found_by_their_words_and_words_by_their_parts(index: HybridIndex) -> None:
    index.update(
        [document("a", "Media_3_FindMovies"), document("b", "stock_price.get"), document("c", "Versandkosten")]
    )
    assert found(index, "a movie") == ["a"]
    assert found(index, "price of a stock") == ["b"]
    assert found(index, "Versand") == ["c"]
    assert found(index, "versandkostn") == ["c"]


@pytest.mark.parametrize("query", ["", "   ", "?!", "the and of", 'title:"x" AND (', "* OR -a [b TO", "x" * 5000, "\0"])
def test_no_query_is_an_error(index: HybridIndex, query: str) -> None:
    index.update([document("a", "refund form")])
    assert found(index, query) == []
