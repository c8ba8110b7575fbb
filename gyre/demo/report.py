"""What the demo says at its end: a table, a plot, and the figures as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

from rich.table import Table

from gyre.demo.play import IN_FLIGHT, Played
from services.runtime.shares import Share


@dataclass(frozen=True)
class Side:
    """The held-out requests as one model answered them.

    Attributes:
        name: Who answered.
        right: How many were right by the official checker.
        right_function: How many had the right function.
        asked: How many were asked.
        low: Lower end of the 95 % Wilson interval of the accuracy.
        high: Its upper end.
        prompt_tokens: Mean per request.
        completion_tokens: Mean per request.
        seconds_median: From sending to the whole answer.
        seconds_p95: The same, for the slowest twentieth.
    """

    name: str
    right: int
    right_function: int
    asked: int
    low: float
    high: float
    prompt_tokens: float
    completion_tokens: float
    seconds_median: float
    seconds_p95: float

    @property
    def kind(self) -> str:
        """Who answered, in a word: `specialist`, or a generic model's name."""
        return "specialist" if self.name.startswith("specialist-") else self.name

    @property
    def accuracy(self) -> float:
        """Share that was right."""
        return self.right / self.asked


@dataclass(frozen=True)
class Report:
    """What one round of the loop did."""

    before: Side
    after: Side
    traffic: int
    labelled: int
    training_rows: int
    run_id: str
    gate: str
    minutes: float


def side(played: Sequence[Played]) -> Side:
    """Summarise answers to the held-out requests."""
    right = sum(each.right for each in played)
    low, high = Share(right, len(played)).interval
    slowest = sorted(each.seconds for each in played)
    return Side(
        name=", ".join(sorted({each.model for each in played})),
        right=right,
        right_function=sum(each.right_function for each in played),
        asked=len(played),
        low=low,
        high=high,
        prompt_tokens=mean(each.prompt_tokens for each in played),
        completion_tokens=mean(each.completion_tokens for each in played),
        seconds_median=median(slowest),
        seconds_p95=slowest[int(0.95 * (len(slowest) - 1))],
    )


def table(report: Report) -> Table:
    """Return the comparison as a table for a terminal."""
    before, after = report.before, report.after
    view = Table(title=f"{after.asked} held-out requests, before and after", title_justify="left")
    view.add_column("")
    view.add_column(f"before: {before.kind}", justify="right")
    view.add_column(f"after: {after.kind}", justify="right")
    rows: list[tuple[str, list[str]]] = [
        ("right, by BFCL's official checker", [f"{s.accuracy:.1%} ({s.right} of {s.asked})" for s in (before, after)]),
        ("  95 % interval", [f"{s.low:.1%} to {s.high:.1%}" for s in (before, after)]),
        ("right function", [f"{s.right_function / s.asked:.1%}" for s in (before, after)]),
        ("prompt tokens per request", [f"{s.prompt_tokens:.0f}" for s in (before, after)]),
        ("answer tokens per request", [f"{s.completion_tokens:.0f}" for s in (before, after)]),
        ("seconds per answer, median", [f"{s.seconds_median:.2f}" for s in (before, after)]),
        ("seconds per answer, 95th percentile", [f"{s.seconds_p95:.2f}" for s in (before, after)]),
    ]
    for measure, values in rows:
        view.add_row(measure, *values)
    return view


def write(report: Report, folder: Path) -> tuple[Path, Path]:
    """Write the figures and the plot; return where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = folder / "report.json"
    figures.write_text(json.dumps(asdict(report), indent=2) + "\n")
    plot = folder / "before-and-after.png"
    _plot(report, plot)
    return figures, plot


def _plot(report: Report, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    sides = (report.before, report.after)
    names = [f"before\n{report.before.kind}", f"after\n{report.after.kind}"]
    colours = ["#9aa5b1", "#1f7a5c"]
    figure, panels = pyplot.subplots(1, 3, figsize=(11, 4.2), layout="constrained")

    def bars(panel: Any, title: str, values: list[float], labels: list[str], errors: Any = None) -> None:
        panel.bar(names, values, color=colours, width=0.6, yerr=errors, capsize=5, ecolor="#39424e")
        panel.set_title(title, loc="left", fontsize=11)
        panel.spines[["top", "right"]].set_visible(False)
        tallest = max(values[i] + (errors[1][i] if errors else 0) for i in range(2)) or 1
        panel.set_ylim(0, tallest * 1.2)
        for position, (value, label) in enumerate(zip(values, labels, strict=True)):
            top = value + (errors[1][position] if errors else 0)
            panel.text(position, top + tallest * 0.03, label, ha="center", fontsize=10)

    bars(
        panels[0],
        f"right, % of {report.after.asked} held-out requests\n(bars: 95 % interval)",
        [100 * s.accuracy for s in sides],
        [f"{100 * s.accuracy:.1f} %" for s in sides],
        [[100 * (s.accuracy - s.low) for s in sides], [100 * (s.high - s.accuracy) for s in sides]],
    )
    bars(
        panels[1],
        "tokens per request\n(prompt and answer)",
        [s.prompt_tokens + s.completion_tokens for s in sides],
        [f"{s.prompt_tokens + s.completion_tokens:.0f}" for s in sides],
    )
    bars(
        panels[2],
        f"seconds per answer\n(median, {IN_FLIGHT} in flight)",
        [s.seconds_median for s in sides],
        [f"{s.seconds_median:.2f} s" for s in sides],
    )
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
