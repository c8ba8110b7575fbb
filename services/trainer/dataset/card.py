"""The dataset card: what a version is made of, in tables and plots, and no content of any row.

As Hugging Face reads it (`README.md` with a YAML head); what it says follows "Datasheets for Datasets" (Gebru et al.,
Communications of the ACM 64, 2021): where rows come from, how they were chosen, and what they are for.
"""

import io
import json
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from schemas.answers import parse_call
from services.trainer.dataset.manifest import Manifest
from services.trainer.dataset.rows import Split

SPLITS: tuple[Split, ...] = ("train", "holdout")
# The largest groups of a plot; the tables have all of them.
MOST_BARS = 12
_COLOURS = ("#4269d0", "#efb118")  # of train and holdout

Record = Mapping[str, Any]


def describe(manifest: Manifest, records: Sequence[Record]) -> dict[str, bytes]:
    """Return the card and its plots, by file name.

    Args:
        manifest: The version's.
        records: Its rows as they are written (`store.record_of`).
    """
    return {"README.md": _text(manifest, records).encode(), "rows.svg": _plots(manifest, records)}


def _text(manifest: Manifest, records: Sequence[Record]) -> str:
    made = _day(manifest.created_at_ms)
    labelled = [_day(record["labelled_at_ms"]) for record in records]
    sizes = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M")
    size = sizes[min(len(sizes) - 1, max(0, len(str(len(records))) - 3))]
    lengths = {"request": _asked_characters, "answer": lambda record: len(record["completion"])}
    return "\n".join(
        [
            "---",
            f"pretty_name: {manifest.tenant}/{manifest.task}",
            "task_categories: [text-generation]",
            f"size_categories: [{size}]",
            "configs: [{config_name: default, data_files: rows.parquet}]",
            "---",
            "",
            f"# {manifest.tenant}/{manifest.task}, {made}",
            "",
            f"Requests with the answers that experts gave, to train a specialist on (`split` is `train`) and to judge "
            f"it by (`holdout`). Version `{manifest.dataset_id}`, after "
            f"{f'`{manifest.parent}`' if manifest.parent else 'none'}. Its highest sensitivity is "
            f"**{manifest.sensitivity}**.",
            "",
            *_table("", ["train", "held out"], [("rows", [manifest.splits[split] for split in SPLITS])]),
            f"Labelled from {min(labelled, default='never')} to {max(labelled, default='never')}. The rows are "
            f"{manifest.clusters} clusters of near-duplicates, each on one side of the split. {manifest.replayed} rows "
            f"were carried on from the version before. Personal data and secrets that no row holds in the clear: "
            f"{', '.join(manifest.personal_data) or 'none was looked for'}."
            + (f" All below leave out {manifest.erased} rows that have been erased." if manifest.erased else ""),
            "",
            "![Rows by function, length and time, and labels that were left out](rows.svg)",
            "",
            *_groups("Function", records, _function),
            *_groups("Sensitivity", records, lambda record: record["sensitivity"]),
            *_groups("Who stands behind it", records, lambda record: record["state"]),
            *_groups("Why experts were asked, and what they found", records, _origin),
            *_groups("Labelled by", records, lambda record: record["source"]),
            *_table(
                "Characters",
                [f"{split}, {figure}" for split in ("train", "held out") for figure in ("median", "longest")],
                [
                    (name, [figure for split in SPLITS for figure in _figures(map(length, _of(records, split)))])
                    for name, length in lengths.items()
                ],
            ),
            *_table("Left out", ["labels"], [(str(reason), [count]) for reason, count in manifest.left_out.items()]),
            "`left_out.parquet` has the reason for each label, `manifest.json` what the version is, and "
            "`assignments.parquet` the split of every request that was ever seen.",
            "",
        ]
    )


def _table(title: str, columns: Sequence[str], rows: Iterable[tuple[str, Sequence[int]]]) -> list[str]:
    return [
        f"| {title} | {' | '.join(columns)} |",
        f"|---|{'---:|' * len(columns)}",
        *(f"| {name} | {' | '.join(f'{value:,}' for value in values)} |" for name, values in rows),
        "",
    ]


def _groups(title: str, records: Sequence[Record], group: Callable[[Record], str]) -> list[str]:
    return _table(title, ["train", "held out"], _counts(records, group))


def _counts(records: Sequence[Record], group: Callable[[Record], str]) -> list[tuple[str, list[int]]]:
    """Return how many rows of each split are in each group, the largest group first."""
    counts = Counter((group(record), record["split"]) for record in records)
    names = sorted({name for name, _ in counts}, key=lambda name: (-sum(counts[name, split] for split in SPLITS), name))
    return [(name, [counts[name, split] for split in SPLITS]) for name in names]


def _function(record: Record) -> str:
    """Return the function that an answer calls; one that was not offered has no name, for it may be an expert's own."""
    called = parse_call(record["completion"])
    offered = {tool.get("function", tool)["name"] for tool in json.loads(record["tools_json"])}
    return "none" if called is None else f"`{called[0]}`" if called[0] in offered else "one that was not offered"


def _origin(record: Record) -> str:
    asked = {"flagged": "the answer was doubted", "explored": "drawn at random", "imported": "labelled elsewhere"}
    return f"{asked[record['origin']]}; {record['outcome']}"


def _of(records: Iterable[Record], split: Split) -> list[Record]:
    return [record for record in records if record["split"] == split]


def _figures(lengths: Iterable[int]) -> tuple[int, int]:
    found = list(lengths) or [0]
    return round(statistics.median(found)), max(found)


def _time(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def _day(at_ms: int) -> str:
    return f"{_time(at_ms):%Y-%m-%d}"


def _asked_characters(record: Record) -> int:
    return sum(len(turn["content"]) for turn in record["messages"] if turn["role"] != "system")


def _plots(manifest: Manifest, records: Sequence[Record]) -> bytes:
    from matplotlib.figure import Figure  # only who writes a version needs it

    figure = Figure(figsize=(10, 7), layout="constrained")
    functions, lengths, times, reasons = figure.subplots(2, 2).flat
    rows = [_of(records, split) for split in SPLITS]

    groups = _counts(records, _function)[:MOST_BARS][::-1]
    names = [name.strip("`").replace("$", r"\$") for name, _ in groups]  # else it would begin a formula
    train, held_out = ([values[number] for _, values in groups] for number in range(len(SPLITS)))
    functions.barh(names, train, color=_COLOURS[0], label="train")
    functions.barh(names, held_out, left=train, color=_COLOURS[1], label="held out")
    functions.set(title=f"Rows by function (the first {MOST_BARS})", xlabel="rows")
    functions.legend()

    lengths.hist([list(map(_asked_characters, each)) for each in rows], bins=20, stacked=True, color=_COLOURS)
    lengths.set(title="Rows by length of the request", xlabel="characters", ylabel="rows")

    labelled = [[_time(record["labelled_at_ms"]) for record in each] for each in rows]
    times.hist(labelled, bins=20, stacked=True, color=_COLOURS)
    times.set(title="Rows by when they were labelled", ylabel="rows")
    times.tick_params("x", rotation=30)

    labels = list(manifest.left_out.values())
    reasons.barh([str(reason) for reason in manifest.left_out], labels, height=0.5, color="#9498a0")
    reasons.set(title="Labels that were left out", xlabel="labels")

    drawn = io.BytesIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue()
