"""What things cost, as measured: `costs.yaml` beside this module, which `python -m benchmarks.capacity` writes."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, ValidationError

from schemas.bundle.base import Frozen

Figure = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
COSTS = Path(__file__).with_name("costs.yaml")


class InvalidError(Exception):
    """A file is not what was wanted; the message names the field."""


class Source(Frozen):
    """Where figures come from."""

    # That measures them; or, where nobody here has, where they are stated.
    command: str
    machine: str
    date: date
    measured: bool = True


class Keeps(Frozen):
    """What a request leaves behind: one copy, as it lies in Kafka (lz4), and in ClickHouse."""

    topic_bytes: dict[str, Figure]
    topic_records: dict[str, Figure]
    clickhouse_bytes: Figure


class Requests(Frozen):
    """What requests take of each part. Processor time is of one core of the machine that it was measured on."""

    source: Source
    # Rounds of the reference work (`benchmarks.capacity_speed`) in a processor second, while these were measured.
    speed: Positive
    # Of a request and its answer, as these were measured.
    tokens: Positive
    plain_ms: dict[str, Figure]
    streamed_ms: dict[str, Figure]
    # For each token more.
    token_us: dict[str, Figure]
    # What a replica takes for each record that all replicas read: of context an interaction, of the router a total of
    # what an application with limits has used.
    follow_us: dict[str, Figure]
    memory_mib: dict[str, Figure]
    plain_kept: Keeps
    streamed_kept: Keeps


class Records(Frozen):
    """What works on the topics takes."""

    source: Source
    # Of a record of any topic, in large batches.
    audit_us: Figure
    clickhouse_us: Figure
    # Of an interaction.
    triage_us: Figure


class Holdings(Frozen):
    """What is held for each thing that is held."""

    source: Source
    context_document_kib: Figure
    triage_item_kb: Figure


class Hardware(Frozen):
    """What one machine of a kind has: an operator's choice, so no measurement."""

    source: Source
    broker_cores: Positive
    broker_disk_tb: Positive
    broker_partitions: Positive
    clickhouse_cores: Positive
    clickhouse_disk_tb: Positive
    network_gbit: Positive
    replica_disk_gb: Positive
    replica_memory_gib: Positive


class Engine(Frozen):
    """What one unit, a core or a GPU, gives with a model."""

    source: Source
    unit: str
    # Answers under way at once in one unit, and their tokens in a second, all together.
    slots: Annotated[int, Field(ge=1)]
    answer_tokens_per_second: Positive
    # Read before an answer begins; none: the figure for answers has it.
    prompt_tokens_per_second: Positive | None = None
    # Of one Triton, which is the only one that the router knows; none: there may be any number behind an upstream.
    units_at_most: Annotated[int, Field(ge=1)] | None = None


class Costs(Frozen):
    """All that a plan is made of, beside the load."""

    requests: Requests
    records: Records
    holdings: Holdings
    hardware: Hardware
    engines: dict[str, Engine]


def load_costs(path: Path = COSTS) -> Costs:
    """Read a file of costs.

    Raises:
        InvalidError: It is not YAML, or holds something that was not wanted.
    """
    try:
        return Costs.model_validate(read_yaml(path))
    except ValidationError as error:
        raise InvalidError(f"{path}: {first_of(error)}") from error


def read_yaml(path: Path) -> object:
    """Return what a YAML file holds.

    Raises:
        InvalidError: It cannot be read, or is not YAML.
    """
    try:
        return yaml.safe_load(path.read_text())
    except OSError as error:
        raise InvalidError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidError(f"{path} is not YAML: {error}") from error


def first_of(error: ValidationError) -> str:
    """Return the first thing that is wrong, with its field."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
