"""How well the router tells which model a request needs: `python -m benchmarks.routing DATA_FILE MODELS_DIR`.

The data are questions of MMLU with whether a small and a large model answered each rightly, of RouteLLM (Ong et al.
2024; its measures are used here too). `services/router/domain/success.py` learns from half of the subjects and is shown
the other half. Subjects, in the order of the SHA-256 digests of their names, go to one half and the other in turn. Then
the halves change places; and last, questions are halved at random, so that all subjects are known, as of traffic that
goes on as it was.

The bar goes from 0 to 1; at each, the small model answers what it is trusted with, as in `decide`. PGR is the share of
the gap between the two models' accuracies that is recovered; CPT(50) and CPT(80) the shares of calls to the large model
at which it is 50 and 80 %; APGR its mean over all shares of calls. The oracle knows both answers. Intervals are at
95 %, by bootstrap over subjects. The calibration error (ECE) is over ten bins of equal width; the Brier score is the
mean squared error. Times are of the processor, on one core, for one decision: the features of a question, the words of
which were seen before, and the chances of three models. A digest shows what the machine is worth at that hour.
"""

import argparse
import gzip
import hashlib
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from services.router.domain.success import PRIOR, Features, Success
from services.runtime.embeddings import space_of
from services.runtime.logistic import Logistic

Numbers = npt.NDArray[np.float64]
RESAMPLES = 1000
BINS = 10
DECISIONS = 3000
TIERS = ("small", "large")


@dataclass(frozen=True)
class Answers:
    """Questions of N rows, and which of both models answered each rightly.

    Attributes:
        prompts: The questions.
        subjects: (N,).
        right: (N, 2), small and large.
    """

    prompts: list[str]
    subjects: npt.NDArray[np.str_]
    right: Numbers

    def of(self, subjects: Sequence[str]) -> "Answers":
        """Return those of some subjects, in a fixed random order, as traffic would mix them."""
        rows = np.flatnonzero(np.isin(self.subjects, list(subjects)))
        np.random.default_rng(0).shuffle(rows)
        return self.at(rows)

    def at(self, rows: npt.NDArray[np.int64]) -> "Answers":
        """Return those at some rows."""
        return Answers([self.prompts[i] for i in rows], self.subjects[rows], self.right[rows])


class Learner:
    """Both models' success, as the router learns it; beside it, Platt scaling of what was foretold before it came."""

    def __init__(self, features: Features) -> None:
        self._features = features
        self._models = [Success(features.dimensions, PRIOR[tier]) for tier in TIERS]
        self._scales = [Logistic(np.array((0.0, 1.0)), np.array((0.1, 0.1))) for _ in TIERS]

    def learn(self, answers: Answers) -> tuple[Numbers, Numbers]:
        """Foretell each answer, then learn it; return the chances foretold, (N, 2), and the same scaled."""
        chances, scaled = np.zeros_like(answers.right), np.zeros_like(answers.right)
        for row, prompt in enumerate(answers.prompts):
            x = self._features.of(prompt, 1, 0)
            for each, (model, scale) in enumerate(zip(self._models, self._scales, strict=True)):
                chances[row, each] = model.chance(x)
                scaled[row, each] = scale.chance(_odds(chances[row, each]))
                scale.learn(_odds(chances[row, each]), answers.right[row, each], 1.0)
                model.learn(x, answers.right[row, each], 1.0)
        return chances, scaled

    def chances(self, answers: Answers) -> tuple[Numbers, Numbers]:
        """Return the chances of each answer, (N, 2), and the same scaled, learning nothing."""
        xs = [self._features.of(prompt, 1, 0) for prompt in answers.prompts]
        chances = np.array([[model.chance(x) for model in self._models] for x in xs])
        return chances, np.array(
            [[scale.chance(_odds(chance)) for scale, chance in zip(self._scales, row, strict=True)] for row in chances]
        )


def _odds(chance: float) -> Numbers:
    return np.array((1.0, np.log(chance / (1 - chance))))


def main(data: Path, models_dir: Path, plot: Path | None) -> None:
    """Measure, print, draw."""
    answers = _read(data)
    features = Features(space_of(models_dir)())
    one, other = _halves(answers)
    for name, known, new in (("main split", one, other), ("halves swapped", other, one)):
        _show_split(name, features, answers.of(known), answers.of(new), plot if name == "main split" else None)
    mixed = answers.of(list(set(answers.subjects)))
    rows = np.arange(len(mixed.prompts))
    fit, shown = mixed.at(rows[: len(rows) // 2]), mixed.at(rows[len(rows) // 2 :])
    _show_split("the same subjects in both halves", features, fit, shown, None)
    _show_times(features, answers)


def _show_split(name: str, features: Features, fit: Answers, shown: Answers, plot: Path | None) -> None:
    print(f"\n{name}: learned from {len(fit.prompts)} questions of {len(set(fit.subjects))} subjects,", end=" ")
    print(f"shown {len(shown.prompts)} of {len(set(shown.subjects))}; right on those: ", end="")
    print(", ".join(f"{tier} {share:.1%}" for tier, share in zip(TIERS, shown.right.mean(axis=0), strict=True)))
    learner = Learner(features)
    learner.learn(fit)
    chances, scaled = learner.chances(shown)
    on_the_way, scaled_on_the_way = learner.learn(shown)
    curves: dict[str, Callable[[npt.NDArray[np.int64]], Numbers]] = {
        "router": lambda rows: by_bar(chances[rows], shown.right[rows]),
        "router, learning on": lambda rows: by_bar(on_the_way[rows], shown.right[rows]),
        "random": lambda rows: at_random(shown.right[rows]),
        "oracle": lambda rows: by_oracle(shown.right[rows]),
    }
    print(f"{'':22}{'APGR':26}{'CPT(50)':28}{'CPT(80)'}")
    samples = _samples(shown.subjects)
    everything = np.arange(len(shown.prompts))
    for title, curve in curves.items():
        cells = []
        values = measures(curve(everything))
        resampled = np.array([measures(curve(rows)) for rows in samples])
        for i, value in enumerate(values):
            low, high = np.percentile(resampled[:, i], (2.5, 97.5))
            cells.append(
                f"{value:.3f} ({low:.3f} to {high:.3f})" if i == 0 else f"{value:.1%} ({low:.1%} to {high:.1%})"
            )
        print(f"{title:22}{cells[0]:26}{cells[1]:28}{cells[2]}")
    for title, foretold, after in (("", chances, scaled), (", learning on", on_the_way, scaled_on_the_way)):
        for each, tier in enumerate(TIERS):
            right, plain = shown.right[:, each], foretold[:, each]
            print(
                f"chances of {tier}{title}: ECE {ece(plain, right):.3f}, scaled {ece(after[:, each], right):.3f}, "
                f"by chance alone {by_chance(plain):.3f}; Brier {brier(plain, right):.4f}, "
                f"scaled {brier(after[:, each], right):.4f}, of one chance for all {right.var():.4f}"
            )
    if plot is not None:
        _draw(plot, {title: curve(everything) for title, curve in curves.items()})


def by_bar(chances: Numbers, right: Numbers) -> Numbers:
    """Return the curve of the router's rule: for each bar the share of calls to the large model, and the accuracy.

    As the bar rises past the small model's chance of a request, that goes to the large one, unless its chance is lower
    still. The curve ends where the large model answers everything.
    """
    bars = np.where(chances[:, 1] > chances[:, 0], chances[:, 0], np.inf)
    return _curve(np.argsort(bars, kind="stable"), right, int(np.isfinite(bars).sum()))


def by_oracle(right: Numbers) -> Numbers:
    """Return the curve of one who knows: first the requests that the large model alone gets right."""
    return _curve(np.argsort(right[:, 0] - right[:, 1], kind="stable"), right, len(right))


def at_random(right: Numbers) -> Numbers:
    """Return the curve of chance, a straight line."""
    return np.column_stack(((0.0, 1.0), right.mean(axis=0)))


def _curve(order: npt.NDArray[np.int64], right: Numbers, moved: int) -> Numbers:
    """Return (points, 2) of requests that move to the large model in an order, so many of them, then all the rest."""
    gains = (right[:, 1] - right[:, 0])[order[:moved]]
    shares = np.arange(moved + 1) / len(right)
    accuracies = right[:, 0].mean() + np.concatenate(([0.0], np.cumsum(gains))) / len(right)
    return np.vstack((np.column_stack((shares, accuracies)), (1.0, right[:, 1].mean())))


def measures(curve: Numbers) -> tuple[float, float, float]:
    """Return APGR, CPT(50) and CPT(80) of a curve."""
    shares, accuracies = curve.T
    recovered = (accuracies - accuracies[0]) / (accuracies[-1] - accuracies[0])
    area = float(np.trapezoid(recovered, shares))
    return area, _first(shares, recovered, 0.5), _first(shares, recovered, 0.8)


def _first(shares: Numbers, recovered: Numbers, wanted: float) -> float:
    """Return the least share of calls that recovers so much of the gap."""
    at = int(np.argmax(recovered >= wanted))
    before, after = recovered[at - 1], recovered[at]
    return float(shares[at - 1] + (shares[at] - shares[at - 1]) * (wanted - before) / (after - before))


def ece(chances: Numbers, right: Numbers) -> float:
    """Return the expected calibration error: by how far chances and shares differ, over bins of equal width."""
    bins = np.minimum((chances * BINS).astype(int), BINS - 1)
    errors = (
        abs(chances[bins == each].mean() - right[bins == each].mean()) * float((bins == each).mean())
        for each in np.unique(bins)
    )
    return float(sum(errors))


def by_chance(chances: Numbers) -> float:
    """Return the ECE of these chances where they are true, which is not nought: shares vary."""
    draw = np.random.default_rng(0)
    return float(np.mean([ece(chances, (draw.random(len(chances)) < chances).astype(float)) for _ in range(100)]))


def brier(chances: Numbers, right: Numbers) -> float:
    """Return the mean squared error."""
    return float(((chances - right) ** 2).mean())


def _samples(subjects: npt.NDArray[np.str_]) -> list[npt.NDArray[np.int64]]:
    draw = np.random.default_rng(0)
    rows = {subject: np.flatnonzero(subjects == subject) for subject in sorted(set(subjects))}
    return [np.concatenate([rows[each] for each in draw.choice(list(rows), len(rows))]) for _ in range(RESAMPLES)]


def _show_times(features: Features, answers: Answers) -> None:
    models = [Success(features.dimensions, chance) for chance in PRIOR.values()][:3]
    prompts = random.Random(0).sample(answers.prompts, DECISIONS)
    seconds: dict[str, list[float]] = {"a decision": [], "  of it features": [], "SHA-256 of 100 kB": []}
    for prompt in prompts:
        started = time.process_time()
        x = features.of(prompt, 1, 0)
        embedded = time.process_time()
        for model in models:
            model.chance(x)
        seconds["a decision"].append(time.process_time() - started)
        seconds["  of it features"].append(embedded - started)
    for _ in prompts:
        started = time.process_time()
        hashlib.sha256(bytes(100_000)).digest()
        seconds["SHA-256 of 100 kB"].append(time.process_time() - started)
    for name, taken in seconds.items():
        p50, p99 = np.percentile(taken, (50, 99)) * 1e6
        print(f"{name:22}p50 {p50:4.0f} us, p99 {p99:4.0f} us")


def _halves(answers: Answers) -> tuple[list[str], list[str]]:
    subjects = sorted(set(answers.subjects), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    return subjects[0::2], subjects[1::2]


def _read(data: Path) -> Answers:
    with gzip.open(data, "rt") as lines:
        rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
    right = np.array([[row["small_correct"], row["large_correct"]] for row in rows], np.float64)
    return Answers([row["prompt"] for row in rows], np.array([row["subject"] for row in rows]), right)


def _draw(plot: Path, curves: dict[str, Numbers]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    styles = {"router": "tab:blue", "router, learning on": "tab:cyan", "random": "tab:gray", "oracle": "tab:green"}
    for title, curve in curves.items():
        axes.plot(
            100 * curve[:, 0], 100 * curve[:, 1], color=styles[title], linestyle="--" if title == "random" else "-",
            label=f"{title}: APGR {measures(curve)[0]:.2f}",
        )  # fmt: skip
    axes.set_xlabel("calls to the large model, %")
    axes.set_ylabel("right answers, %")
    axes.set_title("MMLU, subjects not learned from: Mixtral-8x7B or GPT-4")
    axes.legend(loc="lower right", frameon=False)
    axes.grid(alpha=0.3)
    figure.savefig(plot, dpi=120)
    print(f"{plot} is drawn")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    arguments.add_argument("data", type=Path)
    arguments.add_argument("models_dir", type=Path)
    arguments.add_argument("--plot", type=Path, help="where to draw the curves of cost against quality")
    given = arguments.parse_args()
    main(given.data, given.models_dir, given.plot)
