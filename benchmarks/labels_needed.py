"""How many labels triage needs for a specialist as good as one that learned by chance.

`python -m benchmarks.labels_needed FOLDER` takes an hour or more. Of the requests of `gyre.demo.traffic` (live ones of
BFCL) that are not held out, an early specialist learns from `--early`, drawn by chance, and answers all the others. Of
these answers triage as it runs (`services.triage.handlers.Picker`) has `--part` of `--labels` judged, each label coming
10 answers later; beside it `--labels` are drawn by chance. A specialist is trained anew on either, with what the early
one learned, and answers the held-out requests, judged by BFCL's own checker. What lies in FOLDER already stays.
"""

import argparse
import random
import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.edge_case_traffic import answers_of, messages_of, read, taught_by_chance, train
from benchmarks.edge_cases import NOW, REQUESTS, SPACE, TASK, TENANT, cases_of, picks, wrong_call
from gyre.demo.traffic import TrafficRequest, traffic
from schemas.bundle import Experts
from schemas.events import Label, Sensitivity
from services.runtime.shares import Share
from services.triage.domain.labels import CORRECTED
from services.triage.domain.texts import question_of
from services.triage.experience import Experience

DELAY, EXPLORATION = 10, 0.1


def main() -> None:
    """Train, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--early", type=int, default=100, help="labels that the early specialist learned from")
    parser.add_argument("--labels", type=int, default=200, help="that chance draws beside them")
    parser.add_argument("--part", type=float, default=0.7, help="of these that triage gets")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    gains = []
    for seed in range(options.seeds):
        early = taught_by_chance(seed, options.early)
        others = [request for request in traffic() if request.split == "traffic" and request not in early]
        adapter = _taught(early, seed, options.folder / f"early-{seed}.gguf")
        pool = _answered(adapter, others, options.folder / f"specialist-{seed}.jsonl")
        chosen: dict[str, list[TrafficRequest]] = {
            "early": [],
            "chance": random.Random(f"chance {seed}").sample(others, options.labels),
            "triage": _by_triage(early, pool, seed, round(options.part * options.labels)),
        }
        right = {}
        for way, requests in chosen.items():
            adapter = _taught([*early, *requests], seed, options.folder / f"{way}-{seed}.gguf")
            answers = read(_answered(adapter, _held_out(), options.folder / f"{way}-{seed}.jsonl"))
            right[way] = Share(sum(each.right for each in answers), len(answers))
            called = Share(sum(each.right_function for each in answers), len(answers))
            low, high = right[way].interval
            print(
                f"seed {seed}, {way:6} {len(requests):3} labels beside {len(early)}: right {right[way].value:.1%} "
                f"({low:.1%} to {high:.1%}), right function {called.value:.1%}",
                flush=True,
            )
        gains.append(right["triage"].value - right["chance"].value)
    print(f"triage with {options.part:.0%} of the labels less chance: {statistics.fmean(gains):+.1%} right", end="")
    print(f" (seeds: {', '.join(f'{gain:+.1%}' for gain in gains)})")


def _held_out() -> list[TrafficRequest]:
    return [request for request in traffic() if request.split == "held-out"]


def _taught(requests: Sequence[TrafficRequest], seed: int, adapter: Path) -> Path:
    if not adapter.exists():
        train(requests, seed, adapter)
    return adapter


def _answered(adapter: Path, asked: Sequence[TrafficRequest], answers: Path) -> Path:
    answers_of(answers, "specialist", adapter, asked)
    return answers


def _by_triage(early: Sequence[TrafficRequest], pool: Path, seed: int, labels: int) -> list[TrafficRequest]:
    experience = Experience(SPACE())
    for request in early:
        experience.take_label(_early_label(request))
    source = random.Random(f"triage {seed}")
    cases = cases_of(pool, wrong_call)
    source.shuffle(cases)
    experts = Experts(share=labels / len(cases), exploration=EXPLORATION)
    return [REQUESTS[case.interaction.request_id] for case in picks(cases, source, DELAY, experience, experts)]


def _early_label(request: TrafficRequest) -> Label:
    """Return what experts said before there was a specialist: of requests drawn by chance, of no answer of its own."""
    return Label(
        label_id=request.id,
        request_id=request.id,
        tenant=TENANT,
        task=TASK,
        expert="benchmark",
        labelled_at=NOW,
        outcome=CORRECTED,
        answer=request.expected_call_json,
        sensitivity=Sensitivity.PUBLIC,
        bundle_version="benchmark",
        question=question_of(messages_of(request)),
        model="generic",
    )


if __name__ == "__main__":
    main()
