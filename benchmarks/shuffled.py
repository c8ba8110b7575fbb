"""Whether the gate refuses specialists that learned wrong answers: `python -m benchmarks.shuffled FOLDER`.

Each of `--candidates` is trained by the trainer's own run on requests of one task of `gyre.demo.traffic` (live ones of
BFCL) whose right answers were given to one another by chance, and then asked what is held out, beside the generic
model, in a Triton of its own. The gate judges them as it judges the first candidate of a task, which is when it takes
least to pass. One that learned the right answers is held against it first, to see that it is not refused as well. What
lies in FOLDER already stays.
"""

import argparse
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.edge_case_traffic import Answer, answers_of, train
from gyre.demo.story import TASK
from gyre.demo.traffic import TrafficRequest, traffic
from schemas.answers import same_answer
from services.trainer.gate import GateRule, judge

LEARNED = [request for request in traffic() if (request.task, request.split) == (TASK, "traffic")]
HELD_OUT = [request for request in traffic() if (request.task, request.split) == (TASK, "held-out")]


def main() -> None:
    """Train, ask, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--candidates", type=int, default=20)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    generic = _right(answers_of(options.folder / "generic.jsonl", "generic", None, HELD_OUT))
    _is_promoted(options.folder, "right", LEARNED, 0, generic)
    promoted = sum(
        _is_promoted(options.folder, f"shuffled-{seed}", _shuffled(seed), seed, generic)
        for seed in range(options.candidates)
    )
    print(f"refused {options.candidates - promoted} of {options.candidates} that learned shuffled answers")


def _shuffled(seed: int) -> list[TrafficRequest]:
    """Return the requests with one another's answers, and without tools, or refinement would leave them out."""
    answers = [request.expected_call_json for request in LEARNED]
    random.Random(seed).shuffle(answers)
    return [
        replace(request, expected_call_json=answer, tools=[]) for request, answer in zip(LEARNED, answers, strict=True)
    ]


def _is_promoted(folder: Path, name: str, taught: Sequence[TrafficRequest], seed: int, generic: Sequence[bool]) -> bool:
    adapter = folder / f"{name}.gguf"
    if not adapter.exists():
        train(taught, seed, adapter)
    own = _right(answers_of(folder / f"{name}.jsonl", "specialist", adapter, HELD_OUT))
    verdict = judge(own, generic, GateRule(), [[f"function {request.function}"] for request in HELD_OUT])
    print(
        f"{name:12} right {sum(own)} of {len(own)}, the generic model {sum(generic)}: "
        f"{'promoted' if verdict.promote else 'refused'}",
        flush=True,
    )
    return verdict.promote


def _right(answers: Sequence[Answer]) -> list[bool]:
    """Say of each answer whether it is the one that was replayed, as the gate does."""
    return [
        same_answer(answer.answer, request.expected_call_json)
        for answer, request in zip(answers, HELD_OUT, strict=True)
    ]


if __name__ == "__main__":
    main()
