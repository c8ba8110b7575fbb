"""What context's index does with 20,000 documents: `python -m benchmarks.context MODELS_DIR`.

Prints the time to index, the memory it takes, and the time of one Stitch without its way over gRPC. Times on the
processor are given beside those of the clock, which other work on the machine lengthens.
"""

import asyncio
import random
import statistics
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from schemas.events import Document, Sensitivity
from services.context import handlers
from services.context.adapters import HybridIndex, ThreadedIndex
from services.context.consumer import BATCH_DOCUMENTS
from services.context.domain.memory import Memory
from services.runtime.clock import Clock
from services.runtime.embeddings import Embedder

DOCUMENTS = 20_000
DOCUMENT_WORDS = 60
QUERIES = 500
QUERY_WORDS = 10
TENANTS = 4
BUDGET_TOKENS = 1024


async def measure(embedder: Embedder) -> None:
    """Index, search, print."""
    chance = random.Random(1)
    syllables = [consonant + vowel for consonant in "bcdfghjklmnprstvwxyz" for vowel in "aeiou"]
    words = ["".join(chance.choices(syllables, k=3)) for _ in range(8000)]
    documents = [_document(number, words, chance) for number in range(DOCUMENTS)]
    index = ThreadedIndex(HybridIndex(embedder, passage_tokens=200, candidates=20, minimum_similarity=0.4))
    before, started, busy = _resident_mib(), time.perf_counter(), time.process_time()
    for first in range(0, DOCUMENTS, BATCH_DOCUMENTS):
        await index.update(documents[first : first + BATCH_DOCUMENTS])
    print(
        f"index {DOCUMENTS} documents of {DOCUMENT_WORDS} words: {time.perf_counter() - started:.1f} s "
        f"({time.process_time() - busy:.1f} s on the processor), {_resident_mib() - before:.0f} MiB"
    )
    memory = Memory(turns=8, conversations=10, turn_tokens=4096)
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
    index.close()


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
    asyncio.run(measure(Embedder(Path(sys.argv[1]))))
