"""How many failures experts are shown for each answer that they look at: `python -m benchmarks.edge_cases FOLDER`.

FOLDER holds traffic recorded by `benchmarks.edge_case_traffic`: answers of a generic model and of an early specialist
of three seeds, with BFCL's checker as the truth. Triage as it runs (`services.triage.handlers.Picker`) sees each file's
answers in an order drawn by chance, picks a fifth of them, and gets each label `--delay` answers later: wrong or right,
first of the function called alone (failures are rare), then of the whole call (they are common). Beside it, with the
same budget: chance, the answer's mean and summed log-probability alone, and an oracle that knows what is wrong. Each is
played in `--orders` orders; intervals are 95 % over orders and seeds, by the normal approximation.

`--plot docs/edge-cases.svg` draws the picture.
"""

import argparse
import random
import statistics
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path

from benchmarks.edge_case_traffic import Answer, messages_of, read, tools_of
from gyre.demo.traffic import TrafficRequest, traffic
from schemas.bundle import Bundle, Experts, load_bundle
from schemas.events import Interaction, Label, Sensitivity
from services.runtime.clock import Clock
from services.runtime.embeddings import space_of
from services.trainer.settings import Settings
from services.triage.domain.labels import CONFIRMED, CORRECTED
from services.triage.domain.rows import Remembered
from services.triage.domain.selection import Budget, Selector
from services.triage.domain.texts import question_of
from services.triage.experience import Experience
from services.triage.handlers import Picker

TENANT, TASK = "customer-care", "consumer-services"
SHARE, EXPLORATION = 0.2, 0.1
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SPACE = space_of(Settings().models_dir)
REQUESTS: dict[str, TrafficRequest] = {request.id: request for request in traffic()}


@dataclass(frozen=True)
class Case:
    """An answer of the traffic, and whether it is wrong."""

    interaction: Interaction
    failed: bool


@dataclass(frozen=True)
class Played:
    """What one way of picking came to: answers picked, and failures among them."""

    answers: int
    picked: int
    found: int

    @property
    def per_label(self) -> float:
        """Failures found for each label."""
        return self.found / self.picked


Way = Callable[[Sequence[Case], random.Random, int], Played]


def main() -> None:
    """Play and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--orders", type=int, default=10, help="in which each file is played")
    parser.add_argument("--delay", type=int, default=10, help="answers after which a label comes")
    parser.add_argument("--plot", type=Path, help="write the picture (SVG) to this file")
    options = parser.parse_args()
    shown = []
    for model in ("specialist", "generic"):
        files = sorted(options.folder.glob(f"{model}-*.jsonl"))
        for target, wrong in (("function", _wrong_function), ("call", wrong_call)):
            cases = [cases_of(path, wrong) for path in files]
            answers = sum(map(len, cases))
            failing = sum(case.failed for each in cases for case in each) / answers
            print(f"\n{model}, wrong {target}: {answers} answers of {len(files)} seeds, {failing:.1%} of them wrong")
            rows = {name: _interval(list(_play(cases, way, options))) for name, way in WAYS.items()}
            for name, (mean, half, share) in rows.items():
                of_oracle = mean / rows["oracle"][0]
                print(
                    f"  {name:22} {mean:.3f} ± {half:.3f} failures a label, {mean / failing:.2f} times chance, "
                    f"{of_oracle:.1%} of the oracle; {share:.1%} asked"
                )
            shown.append((f"{model}, wrong {target}", failing, rows))
    if options.plot:
        _draw(shown, options.plot)


def _wrong_function(answer: Answer) -> bool:
    return not answer.right_function


def wrong_call(answer: Answer) -> bool:
    """Say whether an answer is wrong in anything."""
    return not answer.right


def cases_of(path: Path, wrong: Callable[[Answer], bool]) -> list[Case]:
    """Return the answers of a file, each with whether it is wrong."""
    model = path.stem.partition("-")[0]
    return [Case(_interaction(answer, model), wrong(answer)) for answer in read(path)]


def _interaction(answer: Answer, model: str) -> Interaction:
    logprobs = [logprob for _, logprob in answer.tokens]
    texts = accumulate(text for text, _ in answer.tokens)
    arguments = next((place for place, text in enumerate(texts) if '"arguments"' in text), None)
    request = REQUESTS[answer.id]
    return Interaction(
        request_id=answer.id,
        phase="finished",
        tenant=TENANT,
        application="benchmark",
        task=TASK,
        received_at=NOW,
        finished_at=NOW,
        messages=messages_of(request),
        tools=tools_of(request),
        answer=answer.answer,
        finish_reason=answer.finish_reason,
        model=model,
        model_version="1",
        bundle_version="benchmark",
        sensitivity=Sensitivity.PUBLIC,
        sum_logprob=sum(logprobs),
        mean_logprob=sum(logprobs) / max(1, len(logprobs)),
        min_logprob=min(logprobs, default=0.0),
        name_logprob=sum(logprobs[:arguments]) if arguments is not None else None,
    )


def _play(cases: Sequence[Sequence[Case]], way: Way, options: argparse.Namespace) -> Iterator[Played]:
    for seed, each in enumerate(cases):
        for order in range(options.orders):
            source = random.Random(f"{seed}/{order}")
            yield way(source.sample(each, len(each)), source, options.delay)


def _interval(played: Sequence[Played]) -> tuple[float, float, float]:
    values = [each.per_label for each in played]
    half = 1.96 * statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return statistics.fmean(values), half, statistics.fmean(each.picked / each.answers for each in played)


def _by_score(score: Callable[[Case, random.Random], float]) -> Way:
    def way(cases: Sequence[Case], source: random.Random, _: int) -> Played:
        selector, found, budget = Selector(), 0, Budget(SHARE, 0.0)
        for case in cases:
            selector, decision = selector.decide(score(case, source), budget, source.random(), 0.0)
            found += decision.flagged and case.failed
        return Played(len(cases), selector.flagged, found)

    return way


def _by_triage(cases: Sequence[Case], source: random.Random, delay: int) -> Played:
    picked = list(picks(cases, source, delay, Experience(SPACE()), Experts(share=SHARE, exploration=EXPLORATION)))
    return Played(len(cases), len(picked), sum(case.failed for case in picked))


def picks(
    cases: Sequence[Case], source: random.Random, delay: int, experience: Experience, experts: Experts
) -> Iterator[Case]:
    """Yield the answers that triage has experts judge.

    Args:
        cases: In the order in which they come.
        source: Of chance.
        delay: Answers after which a label comes.
        experience: What experts have said before.
        experts: How much they are asked.
    """
    selector = Selector()
    picker = Picker(experience, Clock(now=lambda: NOW, chance=source.random), partitions=1)
    bundle, waiting = _bundle(experts), deque[tuple[int, Label]]()
    for number, case in enumerate(cases):
        while waiting and waiting[0][0] <= number:
            experience.take_label(waiting.popleft()[1])
        considered = picker.consider(case.interaction, b"", Remembered(partition=0), selector, bundle)
        assert considered is not None
        assert considered.selector is not None
        selector = considered.selector
        edge_case = considered.edge_case
        if edge_case is None or edge_case.same_as:
            continue
        experience.take_edge_case(edge_case)
        yield case
        label = Label(
            label_id=edge_case.request_id,
            request_id=edge_case.request_id,
            tenant=TENANT,
            task=TASK,
            expert="benchmark",
            labelled_at=NOW,
            outcome=CORRECTED if case.failed else CONFIRMED,
            model_answer=edge_case.answer,
            sensitivity=edge_case.sensitivity,
            bundle_version=edge_case.bundle_version,
            question=question_of(edge_case.messages),
            model=edge_case.model,
            model_version=edge_case.model_version,
            signals=edge_case.signals,
            propensity=edge_case.propensity,
            share=edge_case.share,
        )
        waiting.append((number + delay, label))


def _bundle(experts: Experts) -> Bundle:
    sample = load_bundle(Path("deploy/bundle"))
    tenants = {name: tenant.model_copy(update={"experts": experts}) for name, tenant in sample.tenants.items()}
    return sample.model_copy(update={"tenants": tenants})


def _mean(case: Case, _: random.Random) -> float:
    return -(case.interaction.mean_logprob or 0.0)


def _sum(case: Case, _: random.Random) -> float:
    return -(case.interaction.sum_logprob or 0.0)


WAYS: dict[str, Way] = {
    "chance": _by_score(lambda _, source: source.random()),
    "mean log-probability": _by_score(_mean),
    "log-probability": _by_score(_sum),
    "triage": _by_triage,
    "oracle": _by_score(lambda case, _: float(case.failed)),
}


def _draw(shown: Sequence[tuple[str, float, dict[str, tuple[float, float, float]]]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "gyre"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(shown), figsize=(3 * len(shown), 3.2), sharey=True)
    for axis, (title, failing, rows) in zip(axes, shown, strict=True):
        means, halves = [row[0] for row in rows.values()], [row[1] for row in rows.values()]
        axis.bar(range(len(rows)), means, yerr=halves, capsize=3, color="#1f7a5c")
        axis.set_xticks(range(len(rows)), list(rows), rotation=45, ha="right", fontsize=8)
        axis.axhline(failing, color="grey", linewidth=0.8)
        axis.set_title(title, fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("failures a label")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
