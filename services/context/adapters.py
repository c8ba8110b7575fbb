"""Context's ports made real: the index in memory (words by tantivy, BM25; meaning by usearch), governance."""

import asyncio
import re
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import grpc
import grpc.aio
import msgspec
import numpy as np
import tantivy
from usearch.index import Index as VectorIndex

from gyre.api.governance.v1 import governance_pb2, governance_pb2_grpc
from schemas.events import Document, Sensitivity
from services.context.domain.passages import Passage, estimated_tokens
from services.context.domain.stitching import fuse
from services.context.domain.structure import cut
from services.context.ports import DocumentVerdict, IndexedDocument
from services.runtime import rpc
from services.runtime.embeddings import Embedder
from services.runtime.exchange import ExchangeChannel
from services.runtime.wire import findings_of, sensitivity_of

WRITER_BYTES = 30_000_000
QUERY_WORDS = 64
# Of a query's character 4-grams only the rarest are searched: common ones cost most and tell least.
QUERY_GRAMS = 16
LONGEST_QUERY_GRAMS = 512
# What a term counts by where it is found, on top of BM25. A title is in the text too.
FIELDS = {"text": 1.0, "title": 0.5, "grams": 0.2}
# What each ranking counts when the two are made one: words first.
WORDS_WEIGHT, MEANING_WEIGHT = 1.0, 0.8
_ANY_WORD = re.compile(r"\w+")


class HybridIndex:
    """Finds passages by their words and by their meaning. For one thread at a time.

    What a caller may not see takes no part in the search: words are searched under the tenant and the sensitivity, and
    each tenant and sensitivity has a vector index of its own.
    """

    def __init__(self, embedder: Embedder, passage_tokens: int, candidates: int, minimum_similarity: float) -> None:
        """Begin empty.

        Args:
            embedder: Of passages and queries.
            passage_tokens: Longest passage, about.
            candidates: Passages that each of the two searches puts forward.
            minimum_similarity: Cosine below which meaning finds nothing.
        """
        self._embedder = embedder
        self._passage_tokens = passage_tokens
        self._candidates = candidates
        self._minimum_similarity = minimum_similarity
        self._numbers = count()
        self._passages: dict[int, Passage] = {}
        self._numbers_of: dict[str, list[int]] = {}
        self._shard_of: dict[str, tuple[str, Sensitivity]] = {}
        self._vectors: dict[tuple[str, Sensitivity], Any] = defaultdict(self._new_vectors)
        self._analyzers = {"words": word_analyzer(), "grams": _gram_analyzer()}
        self._words = tantivy.Index(_schema())
        for name, analyzer in self._analyzers.items():
            self._words.register_tokenizer(name, analyzer)
        self._writer = self._words.writer(WRITER_BYTES, 1)

    def update(self, documents: Sequence[Document]) -> None:
        """Put documents in the place of those of the same key, the last of each; those that are `deleted` go."""
        newest = {document.document_key: document for document in documents}
        for document_key in newest:
            self._remove(document_key)
        fresh = [(each, passages) for each in newest.values() if not each.deleted and (passages := self._split(each))]
        searched = [_searched(passage) for _, passages in fresh for passage in passages]
        vectors = iter(self._embedder.embed(searched).astype(np.float16) if searched else ())
        self.restore(
            [
                IndexedDocument(
                    each.document_key, each.tenant, tuple(passages), b"".join(next(vectors).tobytes() for _ in passages)
                )
                for each, passages in fresh
            ]
        )

    def restore(self, documents: Sequence[IndexedDocument]) -> None:
        """Put in documents that are not there."""
        by_shard: dict[tuple[str, Sensitivity], list[tuple[list[int], bytes]]] = defaultdict(list)
        for document in documents:
            numbers = [next(self._numbers) for _ in document.passages]
            shard = document.tenant, document.passages[0].sensitivity
            self._numbers_of[document.document_key] = numbers
            self._shard_of[document.document_key] = shard
            by_shard[shard].append((numbers, document.vectors))
            for number, passage in zip(numbers, document.passages, strict=True):
                self._passages[number] = passage
                self._writer.add_document(
                    tantivy.Document(
                        document_key=document.document_key,
                        tenant=document.tenant,
                        sensitivity=passage.sensitivity.level,
                        passage=number,
                        text=_searched(passage),
                        title=passage.title,
                        grams=_searched(passage),
                    )
                )
        self._writer.commit()
        self._words.reload()
        for shard, added in by_shard.items():
            keys = np.array([number for numbers, _ in added for number in numbers])
            vectors = np.frombuffer(b"".join(each for _, each in added), np.float16)
            self._vectors[shard].add(keys, vectors.reshape(len(keys), self._embedder.dimensions))

    def dump(self) -> list[IndexedDocument]:
        """Return all that is in the index."""
        return [
            IndexedDocument(
                document_key,
                self._shard_of[document_key][0],
                tuple(self._passages[number] for number in numbers),
                np.vstack(self._vectors[self._shard_of[document_key]].get(np.array(numbers)))
                .astype(np.float16)
                .tobytes(),
            )
            for document_key, numbers in self._numbers_of.items()
        ]

    def search(self, query: str, tenant: str, max_sensitivity: Sensitivity) -> list[Passage]:
        """Return the passages of a tenant, none above a sensitivity, that fit a query, best first."""
        if not _ANY_WORD.search(query):
            return []
        rankings = [
            (WORDS_WEIGHT, self._by_words(query, tenant, max_sensitivity)),
            (MEANING_WEIGHT, self._by_meaning(query, tenant, max_sensitivity)),
        ]
        return [msgspec.structs.replace(self._passages[number], score=score) for number, score in fuse(rankings)]

    def _by_words(self, query: str, tenant: str, max_sensitivity: Sensitivity) -> list[int]:
        searcher = self._words.searcher()
        schema, must, should = self._words.schema, tantivy.Occur.Must, tantivy.Occur.Should
        words = list(dict.fromkeys(self._analyzers["words"].analyze(query)))[:QUERY_WORDS]
        terms = {"text": words, "title": words, "grams": self._rarest_grams(query, searcher)}
        if not any(terms.values()):
            return []
        seen = tantivy.Query.boolean_query(
            [
                (must, tantivy.Query.term_query(schema, "tenant", tenant)),
                (
                    must,
                    tantivy.Query.range_query(
                        schema, "sensitivity", tantivy.FieldType.Integer, 0, max_sensitivity.level
                    ),
                ),
            ]
        )
        said = tantivy.Query.boolean_query(
            [
                (
                    should,
                    tantivy.Query.boost_query(tantivy.Query.term_query(schema, field, term, "freq"), FIELDS[field]),
                )
                for field, of_field in terms.items()
                for term in of_field
            ]
        )
        # What may be seen takes no part in the score.
        hits = searcher.search(
            tantivy.Query.boolean_query([(must, tantivy.Query.const_score_query(seen, 0.0)), (must, said)]),
            self._candidates,
        ).hits
        return [int(searcher.doc(address)["passage"][0]) for _, address in hits]

    def _rarest_grams(self, query: str, searcher: Any) -> list[str]:
        grams = list(dict.fromkeys(self._analyzers["grams"].analyze(query)))[:LONGEST_QUERY_GRAMS]
        occurring = [(count, gram) for gram in grams if (count := searcher.doc_freq("grams", gram))]
        return [gram for _, gram in sorted(occurring)[:QUERY_GRAMS]]

    def _by_meaning(self, query: str, tenant: str, max_sensitivity: Sensitivity) -> list[int]:
        shards = [
            self._vectors[tenant, each]
            for each in Sensitivity
            if each.level <= max_sensitivity.level and (tenant, each) in self._vectors
        ]
        if not shards:
            return []
        vector = self._embedder.embed([query])[0]
        found: list[tuple[float, int]] = []
        for shard in shards:
            matches = shard.search(vector, self._candidates)
            found += zip(map(float, matches.distances), map(int, matches.keys), strict=True)
        nearest = sorted(found)[: self._candidates]
        return [number for distance, number in nearest if 1 - distance >= self._minimum_similarity]

    def _remove(self, document_key: str) -> None:
        for number in self._numbers_of.pop(document_key, []):
            del self._passages[number]
            self._vectors[self._shard_of[document_key]].remove(number)
        if self._shard_of.pop(document_key, None):
            self._writer.delete_documents_by_term("document_key", document_key)

    def _split(self, document: Document) -> list[Passage]:
        passages = []
        for part in cut(document.text, self._passage_tokens):
            title = " > ".join(dict.fromkeys(filter(None, (document.title, *part.headings))))
            tokens = estimated_tokens(title) + estimated_tokens(part.text)
            passages.append(Passage(document.document_id, title, part.text, document.sensitivity, tokens))
        return passages

    def _new_vectors(self) -> Any:
        return VectorIndex(ndim=self._embedder.dimensions, metric="cos", dtype="f16")


class ThreadedIndex:
    """A `HybridIndex` on a thread of its own, so that the event loop goes on while it works."""

    def __init__(self, index: HybridIndex) -> None:
        self._index = index
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="index")

    async def update(self, documents: Sequence[Document]) -> None:
        """See `HybridIndex.update`."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._index.update, documents)

    async def search(self, query: str, tenant: str, max_sensitivity: Sensitivity) -> list[Passage]:
        """See `HybridIndex.search`. Waits for an update that is under way."""
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._index.search, query, tenant, max_sensitivity
        )

    async def dump(self) -> list[IndexedDocument]:
        """See `HybridIndex.dump`."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._index.dump)

    async def restore(self, documents: Sequence[IndexedDocument]) -> None:
        """See `HybridIndex.restore`."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._index.restore, documents)

    def close(self) -> None:
        """End the thread once it has done what is under way."""
        self._thread.shutdown(cancel_futures=True)


class RemoteGovernance:
    """Verdicts from the governance service."""

    def __init__(self, channel: ExchangeChannel, timeout_seconds: float) -> None:
        self._stub = channel.stub(governance_pb2_grpc.GovernanceStub)
        self._timeout_seconds = timeout_seconds

    async def check_document(self, tenant: str, title: str, text: str) -> DocumentVerdict:
        """Return the verdict on a document."""
        request = governance_pb2.CheckDocumentRequest(tenant=tenant, title=title, text=text)
        try:
            response = await self._stub.CheckDocument(request, timeout=self._timeout_seconds)
        except grpc.aio.AioRpcError as error:
            raise rpc.error_from(error, "governance") from error
        return DocumentVerdict(
            # Whatever is no verdict that lets it pass does not.
            is_refused=response.verdict not in (governance_pb2.VERDICT_PASS, governance_pb2.VERDICT_MASK),
            title=response.title,
            text=response.text,
            sensitivity=sensitivity_of(response.sensitivity) if response.sensitivity else None,
            findings=findings_of("document", response.findings),
            bundle_version=response.bundle_version,
        )


def _searched(passage: Passage) -> str:
    return f"{passage.title}\n{passage.text}" if passage.title else passage.text


def _schema() -> Any:
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("document_key", tokenizer_name="raw", index_option="basic")
    builder.add_text_field("tenant", tokenizer_name="raw", index_option="basic")
    # An integer field: an unsigned one with an index ends the writer.
    builder.add_integer_field("sensitivity", indexed=True, fast=True)
    builder.add_integer_field("passage", stored=True)
    builder.add_text_field("text", tokenizer_name="words", index_option="freq")
    builder.add_text_field("title", tokenizer_name="words", index_option="freq")
    builder.add_text_field("grams", tokenizer_name="grams", index_option="freq")
    return builder.build()


def word_analyzer() -> Any:
    """Return what makes words of a text: lower case, without accents and stop words, stemmed."""
    # Stemming and stop words are English, as the embeddings are; words of other languages are found as they are.
    # `FindMovies` and `find_movies` are two words.
    longest_bytes = 64
    return (
        tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.regex(r"\p{Lu}*[^\W\p{Lu}_]+|\p{Lu}+"))
        .filter(tantivy.Filter.remove_long(longest_bytes))
        .filter(tantivy.Filter.lowercase())
        .filter(tantivy.Filter.ascii_fold())
        .filter(tantivy.Filter.stopword("english"))
        .filter(tantivy.Filter.stemmer("english"))
        .build()
    )


def _gram_analyzer() -> Any:
    # Four characters in a row within a word (McNamee and Mayfield, "Character n-gram tokenization for European language
    # text retrieval", Information Retrieval 7, 2004): they find what is misspelt, compounded or inflected otherwise.
    return (
        tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.ngram(4, 4))
        .filter(tantivy.Filter.lowercase())
        .filter(tantivy.Filter.ascii_fold())
        .filter(tantivy.Filter.alphanum_only())
        .build()
    )
