"""What refinement does to the demo's labels: `python -m benchmarks.refinement`, half a minute.

Every request of the demo's traffic, labelled with its ground truth: in how many clusters of near-duplicates they are at
several thresholds, which labels of each task refinement leaves out, and how long it takes; and how long near-duplicates
take among 10,000 requests of words drawn at random.
"""

import random
import tempfile
import time
from pathlib import Path

from gyre.demo.traffic import TASKS, TrafficRequest, traffic
from schemas.answers import normalise_text
from schemas.bundle import Learning
from services.trainer.dataset import DatasetPolicy, LabelledRow, Message, build_dataset, read_left_out, read_manifest
from services.trainer.dataset.near_duplicates import clusters, near

THRESHOLDS = (0.6, 0.7, 0.8, 0.9)
REQUESTS, WORDS, VOCABULARY = 10_000, 20, 3_000
POLICY = DatasetPolicy(
    minimum_train_rows=1,
    minimum_holdout_rows=1,
    function_call=True,
    personal_data=Learning(labels_needed=1).personal_data,
)


def main() -> None:
    """Measure and print."""
    texts = {normalise_text(asked): asked for request in traffic() for asked in [_asked(request)]}
    print(f"{len(texts)} distinct requests are")
    for threshold in THRESHOLDS:
        found = clusters(near(texts, threshold))
        print(f"  {len(found)} clusters at {threshold}, the largest of {max(map(len, found))}")
    for task in TASKS:
        _refine(task)
    rng = random.Random(0)
    drawn = {str(n): " ".join(f"w{rng.randrange(VOCABULARY)}" for _ in range(WORDS)) for n in range(REQUESTS)}
    started = time.perf_counter()
    near(drawn)
    print(f"near-duplicates among {REQUESTS:,} requests of {WORDS} words: {time.perf_counter() - started:.1f} s")


def _refine(task: str) -> None:
    rows = [_row(number, each) for number, each in enumerate(traffic()) if each.task == task]
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        dataset = build_dataset(rows, POLICY, Path(folder), created_at_ms=0)
        seconds = time.perf_counter() - started
        out, manifest = read_left_out(dataset), read_manifest(dataset)
    print(f"{task}: {manifest.rows} of {len(rows)} labels, {manifest.clusters} clusters, {seconds:.1f} s; left out:")
    asked = {row.label_id: row for row in rows}
    for each in out:
        row = asked[each.label_id]
        print(f"  {each.reason}: {row.messages[-1].content[:60]!r} {row.completion[:80]}")


def _row(number: int, request: TrafficRequest) -> LabelledRow:
    return LabelledRow(
        request_id=request.id,
        label_id=request.id,
        labelled_at_ms=number,
        tenant="demo",
        task=request.task,
        sensitivity="internal",
        source="ground truth",
        messages=(Message("user", _asked(request)),),
        completion=request.expected_call_json,
        tools=tuple(tool["function"] for tool in request.tools),
    )


def _asked(request: TrafficRequest) -> str:
    return "\n".join(message["content"] for message in request.messages if message["role"] != "system")


if __name__ == "__main__":
    main()
