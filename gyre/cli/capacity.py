"""`gyre capacity`."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from gyre.capacity.costs import Costs
    from gyre.capacity.limits import Limit
    from gyre.capacity.load import Load
    from gyre.capacity.plan import Part, Plan

_WIDE_COLUMNS, _NARROW_COLUMNS = 140, 100
_BUSY, _IDLE = 0.65, 0.2


@click.command()
@click.argument("load", required=False, default="retailer", metavar="[LOAD]")
@click.option("--requests", type=float, help="How many, in place of the load's.")
@click.option(
    "--per",
    type=click.Choice(["day", "hour", "second"]),
    help="A mean day, the busiest hour of a day, or a mean second of that hour.",
)
@click.option("--experts", type=float, help="Share of the requests that experts are asked about, of every task.")
@click.option("--percentile", type=float, help="Of the busiest hour's seconds, so many of a hundred are sized for.")
@click.option("--utilisation", type=float, help="How busy whoever serves may be at the peak, 0 to 1.")
@click.option(
    "--costs",
    "costs_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file of costs of your own machines, in place of Gyre's.",
)
@click.option("--format", "form", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True)
def capacity(
    load: str,
    requests: float | None,
    per: str | None,
    experts: float | None,
    percentile: float | None,
    utilisation: float | None,
    costs_file: Path | None,
    form: str,
) -> None:
    """Say what an installation takes: processes, partitions, brokers, servers, GPUs, disk, people.

    LOAD is a YAML file, or one of those that come with Gyre: retailer (50,000 requests a day from 1,600 stores),
    five-million-an-hour, million-a-second. `--format yaml` prints the load itself, to begin a file of your own with;
    docs/capacity.md says what its fields mean, how the plan is made, and from which measurements.
    """
    # Here, so that help is quick.
    from gyre.capacity.costs import COSTS, InvalidError, load_costs
    from gyre.capacity.load import load_of
    from gyre.capacity.plan import plan

    try:
        asked = load_of(load)
        changes = _changes(asked, requests, per, experts, percentile, utilisation)
        asked = load_of(load, changes)
        costs = load_costs(costs_file or COSTS)
        found = plan(asked, costs)
    except (InvalidError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if form == "yaml":
        import yaml

        content = asked.model_dump(mode="json")
        click.echo(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120), nl=False)
    elif form == "json":
        click.echo(json.dumps(_as_json(found, costs), indent=2))
    else:
        from rich.console import Console

        # Piped, there is no width to keep to.
        _show(Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE_COLUMNS), found, costs)


def _changes(
    load: Load,
    requests: float | None,
    per: str | None,
    experts: float | None,
    percentile: float | None,
    utilisation: float | None,
) -> dict[str, object]:
    """Return the fields of a load that options take the place of."""
    changes: dict[str, object] = {}
    if requests is not None or per is not None:
        changes["requests"] = {
            "count": load.requests.count if requests is None else requests,
            "per": per or load.requests.per,
        }
    if experts is not None:
        changes["tasks"] = {name: {**task.model_dump(), "experts": experts} for name, task in load.tasks.items()}
    given = {"percentile": percentile, "utilisation": utilisation}
    return changes | {name: value for name, value in given.items() if value is not None}


def _as_json(found: Plan, costs: Costs) -> dict[str, Any]:
    load = found.load
    content = {
        "load": load.model_dump(mode="json"),
        "per_day": load.per_day,
        "busiest_per_second": load.busiest_per_second,
        "peak_per_second": load.peak_per_second,
        **{field.name: getattr(found, field.name) for field in dataclasses.fields(found) if field.name != "load"},
        "cell": found.cell.model_dump(mode="json"),
        "sources": {"requests": costs.requests.source.model_dump(mode="json")}
        | {name: engine.source.model_dump(mode="json") for name, engine in costs.engines.items()},
    }
    return {name: _plain(value) for name, value in content.items()}


def _plain(value: Any) -> Any:
    """Return a value as JSON has it, which knows no infinity."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: _plain(each) for name, each in dataclasses.asdict(value).items()}
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and math.isinf(value) else value


def _show(console: Console, found: Plan, costs: Costs) -> None:
    load, cell = found.load, found.cell
    console.print(f"[bold]{load.title}[/]")
    console.print(
        f"{_number(load.per_day)} requests a mean day, {_number(load.per_day / load.stores)} a store; "
        f"{_number(load.busiest_per_second)} a second in the busiest hour"
        + (f" of a day {load.busiest_day:g} times as busy" if load.busiest_day > 1 else "")
        + f", [bold]{_number(load.peak_per_second)} in {load.percentile:g} % of its seconds[/] or fewer.",
    )
    if found.cells > 1:
        console.print(
            f"\n[yellow]One installation cannot do it: {found.divider.part} stops at "
            f"{_number(found.divider.per_second)} requests/s.[/] What follows is one of [bold]{found.cells:,} "
            f"installations[/] (cells), each with stores of its own: {_number(cell.busiest_per_second)} requests/s in "
            f"the busiest hour, {_number(cell.peak_per_second)} at the peak.",
        )
    console.print()
    console.print(_parts_table(found, is_wide=console.width >= _NARROW_COLUMNS))
    console.print()
    console.print(_topics_table(found))
    console.print(
        f"\nDisk{' of each' if found.cells > 1 else ''}: Kafka takes {_bytes(found.kafka_disk_bytes_per_day)} a day in "
        f"{cell.kafka_copies} copies; ClickHouse {_bytes(found.clickhouse_disk_bytes_per_day)} a day in "
        f"{cell.clickhouse_copies}, and {_bytes(found.clickhouse_disk_bytes)} on each server after "
        f"{cell.record_days:g} days.",
    )
    if found.clickhouse_disk_bytes > costs.hardware.clickhouse_disk_tb * 1e12:
        console.print(
            f"[yellow]That is more than the {costs.hardware.clickhouse_disk_tb:g} TB of a server: older months go to "
            "an object store (a storage policy of ClickHouse's), or fewer record_days are kept.[/]",
        )
    console.print(
        f"Experts: {_number(load.per_day * load.experts)} items a day are work for [bold]{_number(found.people)} "
        f"people[/] ({load.expert_seconds:g} s each, {load.expert_hours:g} h a day).",
    )
    first = found.bottleneck
    times = first.per_second / cell.busiest_per_second
    console.print(
        f"\n[bold]Where {'each of them' if found.cells > 1 else 'it'} stops[/], in requests/s of the busiest hour: "
        f"first {first.part}, at {times:,.2g} times its load",
    )
    console.print(_limits_table(found))
    _show_sources(console, found, costs)


def _parts_table(found: Plan, is_wide: bool) -> Table:
    table = _table("Part", "Count", *(["In all"] if found.cells > 1 else []), "Of", "Req/s", "Each", "Busy", "Wait")
    for column in ("99 %", "Memory") if is_wide else ():
        table.add_column(column, justify="right", no_wrap=True)
    for part in found.parts:
        waits = [part.wait.mean_seconds, part.wait.quantile_seconds(0.99)] if part.wait else []
        mean, late = [_milliseconds(each * 1e3) for each in waits] or ["", ""]
        table.add_row(
            f"[bold]{part.name}[/]",
            f"[bold]{part.count:,}[/]",
            *([f"{part.count * found.cells:,}"] if found.cells > 1 else []),
            part.unit if part.is_measured else f"[yellow]{part.unit} (stated)[/]",
            _number(part.per_second),
            _milliseconds(part.milliseconds),
            _busy(part),
            mean,
            *([late, _bytes(part.memory_bytes) if part.memory_bytes else ""] if is_wide else []),
        )
    return table


def _topics_table(found: Plan) -> Table:
    table = _table("Topic", "Partitions", "Bytes a request", "Kept, days", "Disk, all copies")
    for topic in found.topics:
        table.add_row(
            topic.name,
            f"{topic.partitions:,}",
            _number(topic.bytes_per_request),
            f"{topic.days:g}",
            _bytes(topic.disk_bytes),
        )
    return table


def _limits_table(found: Plan) -> Table:
    table = _table("Part", "Stops at", "Because")
    table.add_column("Then", ratio=1)
    for limit in found.limits:
        if math.isinf(limit.per_second):
            continue
        table.add_row(limit.part, _stop(limit, found), limit.why, limit.then)
    return table


def _show_sources(console: Console, found: Plan, costs: Costs) -> None:
    source = costs.requests.source
    lines = [f"Costs: {source.command}, on {source.machine}, {source.date}."]
    for name in found.load.engines:
        engine = costs.engines[name].source
        how = "measured" if engine.measured else "[yellow]stated, not measured here[/]"
        lines.append(f"{name}: {how}: {engine.machine} ({engine.command}).")
    lines.append(f"Waits: M/G/1 and M/G/c; busy at the peak: {found.load.utilisation:.0%} at most. docs/capacity.md")
    console.print("\n[dim]" + "\n".join(lines) + "[/]")


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        is_text = column in ("Part", "Of", "Topic", "Because")
        table.add_column(column, justify="left" if is_text else "right", no_wrap=column != "Because")
    return table


def _busy(part: Part) -> str:
    colour = "yellow" if part.utilisation > _BUSY else "dim" if part.utilisation < _IDLE else "green"
    return f"[{colour}]{part.utilisation:.0%}[/]"


def _stop(limit: Limit, found: Plan) -> str:
    colour = "red" if limit.per_second < found.cell.busiest_per_second else "green"
    return f"[{colour}]{_number(limit.per_second)}[/]"


def _number(value: float) -> str:
    if value >= 1e9:
        return f"{value:.3g}".replace("e+", " x 10^") if value >= 1e12 else f"{value / 1e9:,.3g} billion"
    if value >= 1e6:
        return f"{value / 1e6:,.3g} million"
    return f"{value:,.0f}" if value >= 20 else f"{value:.2g}"


def _milliseconds(value: float) -> str:
    if value >= 1000:
        return f"{value / 1000:,.1f} s"
    if value >= 100:
        return f"{value:.0f} ms"
    return f"{value:.2g} ms" if value >= 0.005 else "0 ms"


def _bytes(value: float) -> str:
    for unit, size in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9)):
        if value >= size:
            return f"{value / size:,.1f} {unit}"
    return f"{value / 1e6:,.0f} MB"
