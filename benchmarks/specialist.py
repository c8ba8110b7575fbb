"""How good a specialist gets, by labels and by minutes: `python -m benchmarks.specialist FOLDER`.

Of the requests of `gyre.demo.traffic` (live ones of BFCL, 52 functions) the trainer's own run learns the right answers
of a part that is not held out, drawn by chance, and of all: in fewer epochs and in more, and with each preferred to
what the generic model had said where that is wrong (`--preference-weight`). Each specialist then answers the held-out
requests in a Triton of its own, held to the functions on offer, as behind the router; BFCL's own checker judges.

Beside it: the generic model, with the functions' documents in its prompt; a cascade of the best specialist and the
generic model, which is asked, as by the router, where the answer's log-probability promises less than an even chance
and than the generic model does (for each half of the answers both are learned from the other half); and TRL's
SFTTrainer on the same rows, with LoRA of the same rank on all layers and with the same rate, batches and precision,
after each of its epochs.

Minutes are those of the whole run, from start to adapter, with all cores; all together takes two hours or more on two.
What lies in FOLDER already stays, so that what was interrupted goes on. `--plot docs/learning-curve.svg` draws the
picture.
"""

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import msgspec

from benchmarks.edge_case_traffic import Answer, answers_of, dataset_of, taught_by_chance, train
from gyre.demo.traffic import TrafficRequest, traffic
from recipes.environment import install
from services.router.domain.success import Confidence
from services.runtime.shares import Share
from services.serving.gguf import write_adapter
from services.trainer.dataset import LabelledRow, read_rows
from services.trainer.settings import Settings
from services.trainer.training.configuration import TrainingConfiguration, cpu

SEED = 0
BASE = Settings().models_dir / Settings().base
EVEN = 0.5
HELD_OUT = [request for request in traffic() if request.split == "held-out"]
COLORS = {"gyre": "#1f7a5c", "gyre-preferring": "#7a1f5c", "trl": "#b5651d"}
LEARNABLE = sum(request.split == "traffic" for request in traffic())


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One adapter: what it was made by, from how many labels, in how many epochs, and how long that took.

    Attributes:
        side: Whose trainer; the second learns preferences, too.
        labels: That it was taught.
        epochs: Over its rows.
        minutes: From the start of the run to the adapter.
    """

    side: Literal["gyre", "gyre-preferring", "trl"]
    labels: int
    epochs: int
    minutes: float

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.side}-{self.labels}-{self.epochs}"


def main() -> None:
    """Train, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--labels", type=int, nargs="*", default=[100, 200, 400], help="beside all")
    parser.add_argument("--epochs", type=int, nargs="*", default=[1, 2, 8], help="over all, beside the trainer's own")
    parser.add_argument("--preference-weight", type=float, default=1.0, help="of one more run; 0: without it")
    parser.add_argument("--peer-epochs", type=int, default=4, help="of TRL; 0: without it")
    parser.add_argument("--plot", type=Path, help="write the picture (SVG) to this file")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    print(f"{len(HELD_OUT)} held-out requests, {os.cpu_count()} cores")
    generic = _answers(options.folder, "generic", None)
    _show("generic model", generic)
    usual = cpu().epochs
    runs = [(labels, usual) for labels in (*options.labels, LEARNABLE)]
    points = [_trained(options.folder, *run) for run in (*runs, *((LEARNABLE, epochs) for epochs in options.epochs))]
    if options.preference_weight:
        points.append(_preferring(options.folder, options.preference_weight))
    if options.peer_epochs:
        points += _by_trl(options.folder, options.peer_epochs)
    answers = {point: _answers(options.folder, point.name, options.folder / f"{point.name}.gguf") for point in points}
    for point, given in answers.items():
        _show(f"{point.side}, {point.labels} labels, {point.epochs} epochs, {point.minutes:.1f} minutes", given)
    best = max((given for point, given in answers.items() if point.side == "gyre"), key=lambda each: _share(each).right)
    _show("cascade", list(_cascade(best, generic)))
    if options.plot:
        _draw({point: _share(given) for point, given in answers.items()}, _share(generic), options.plot)


def _trained(folder: Path, labels: int, epochs: int) -> Point:
    """Return the specialist that the trainer makes of so many labels in so many epochs."""
    point = Point(side="gyre", labels=labels, epochs=epochs, minutes=0)
    configuration = msgspec.structs.replace(cpu(os.cpu_count() or 1), epochs=epochs)
    return _made(folder, point, taught_by_chance(SEED, labels), configuration)


def _preferring(folder: Path, weight: float) -> Point:
    """Return the specialist that learned of all labels also that each is better than the generic model's answer."""
    configuration = msgspec.structs.replace(cpu(os.cpu_count() or 1), preference_weight=weight)
    point = Point(side="gyre-preferring", labels=LEARNABLE, epochs=configuration.epochs, minutes=0)
    requests = taught_by_chance(SEED, LEARNABLE)
    said = answers_of(folder / "generic-taught.jsonl", "generic", None, requests)
    wrong = {answer.id: answer.answer for answer in said if not answer.right}
    return _made(folder, point, requests, configuration, wrong)


def _made(
    folder: Path,
    point: Point,
    requests: Sequence[TrafficRequest],
    configuration: TrainingConfiguration,
    said: Mapping[str, str] = MappingProxyType({}),
) -> Point:
    path = folder / f"{point.name}.json"
    if not path.exists():
        seconds = train(requests, SEED, folder / f"{point.name}.gguf", configuration, said)
        path.write_bytes(msgspec.json.encode(msgspec.structs.replace(point, minutes=seconds / 60)))
    return msgspec.json.decode(path.read_bytes(), type=Point)


def _by_trl(folder: Path, epochs: int) -> list[Point]:
    """Return what TRL makes of all labels, after each epoch."""
    path = folder / "trl.jsonl"
    if not path.exists():
        configuration = cpu(os.cpu_count() or 1)
        settings = {
            "batch_size": configuration.batch_size,
            "learning_rate": configuration.learning_rate,
            "warmup_steps": configuration.warmup_steps,
            "max_tokens": configuration.max_tokens,
            "rank": configuration.lora_rank,
            "alpha": configuration.lora_alpha,
            "precision": configuration.precision,
            "threads": configuration.cpus_per_worker,
            "seed": SEED,
        }
        with tempfile.TemporaryDirectory() as scratch:
            rows = Path(scratch) / "rows.jsonl"
            rows.write_bytes(b"".join(map(_conversation, _rows(Path(scratch)))))
            side = [str(install("trl")), "-m", "benchmarks.trl_side", str(rows), str(BASE), str(epochs), scratch]
            ended = subprocess.run(side, input=json.dumps(settings), check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 - ourselves
            told = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith('{"epoch"')]
            points = [
                Point(side="trl", labels=LEARNABLE, epochs=each["epoch"], minutes=each["seconds"] / 60) for each in told
            ]
            for point in points:
                write_adapter(Path(scratch) / str(point.epochs), BASE, folder / f"{point.name}.gguf")
        path.write_bytes(b"".join(msgspec.json.encode(point) + b"\n" for point in points))
    return [msgspec.json.decode(line, type=Point) for line in path.read_bytes().splitlines()]


def _rows(scratch: Path) -> list[LabelledRow]:
    """Return what the trainer learns of all labels."""
    return read_rows(dataset_of(taught_by_chance(SEED, LEARNABLE), scratch), "train")


def _conversation(row: LabelledRow) -> bytes:
    """Return a row as TRL wants it."""
    completion = [{"role": "assistant", "content": row.completion}]
    return msgspec.json.encode({"prompt": row.messages, "completion": completion}) + b"\n"


def _answers(folder: Path, name: str, adapter: Path | None) -> list[Answer]:
    """Return what a model answers to the held-out requests; without an adapter the generic one."""
    return answers_of(folder / f"{name}.jsonl", "specialist" if adapter else "generic", adapter, HELD_OUT)


def _cascade(specialist: Sequence[Answer], generic: Sequence[Answer]) -> Iterator[Answer]:
    """Yield the answers of a cascade; whether to go on is learned from the other half."""
    for half in range(2):
        confidence = Confidence()
        for answer in specialist[1 - half :: 2]:
            confidence.learn(_sum_logprob(answer), float(answer.right))
        bar = min(EVEN, _share(generic[1 - half :: 2]).value)
        for first, second in zip(specialist[half::2], generic[half::2], strict=True):
            yield first if confidence.chance(_sum_logprob(first)) >= bar else second


def _sum_logprob(answer: Answer) -> float:
    return sum(logprob for _, logprob in answer.tokens)


def _share(answers: Sequence[Answer]) -> Share:
    return Share(sum(each.right for each in answers), len(answers))


def _show(name: str, answers: Sequence[Answer]) -> None:
    right, called = _share(answers), Share(sum(each.right_function for each in answers), len(answers))
    low, high = right.interval
    print(f"{name:46} right {right.value:.1%} ({low:.1%} to {high:.1%}), right function {called.value:.1%}", flush=True)


def _draw(shares: Mapping[Point, Share], generic: Share, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "gyre"
    from matplotlib import pyplot as plt

    figure, (by_labels, by_minutes) = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    usual = cpu().epochs
    for side, color in COLORS.items():
        of_side = {point: share for point, share in shares.items() if point.side == side}
        _mark(by_minutes, [(point.minutes, share) for point, share in of_side.items()], side, color)
        of_usual = [(point.labels, share) for point, share in of_side.items() if point.epochs == usual]
        _mark(by_labels, of_usual, side, color)
    by_labels.set_xlabel(f"labels, {usual} epochs")
    by_minutes.set_xlabel(f"minutes of the run, {os.cpu_count()} cores")
    by_labels.set_ylabel("right, %, of the held-out requests")
    for axis in (by_labels, by_minutes):
        axis.axhline(100 * generic.value, color="grey", linewidth=0.8, label="generic model")
        axis.set_ylim(0, 100)
        axis.set_xlim(left=0)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def _mark(axis: Any, points: Sequence[tuple[float, Share]], label: str, color: str) -> None:
    if not points:
        return
    places, shares = zip(*sorted(points, key=itemgetter(0)), strict=True)
    values = [100 * share.value for share in shares]
    ends = [[100 * (share.value - share.interval[0]) for share in shares]]
    ends.append([100 * (share.interval[1] - share.value) for share in shares])
    axis.errorbar(places, values, yerr=ends, fmt="o", capsize=3, color=color, label=label)


if __name__ == "__main__":
    main()
