"""What is on record of labels, asked of ClickHouse."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from pydantic import ValidationError

from gyre.labelling.form import GivenLabel, InvalidItemError, LabelledRequest, problem
from schemas.events import Sensitivity
from services.runtime.settings import ClickHouseSettings

_PIECE_BYTES = 1 << 20
# Lines as `LabelledRequest` has them.
_SETTINGS = {"date_time_output_format": "iso", "output_format_json_named_tuples_as_objects": 1}
_WANTED = """({tenant:String} = '' OR tenant = {tenant:String}) AND ({task:String} = '' OR task = {task:String})
    AND (empty({states:Array(String)}) OR has({states:Array(String)}, state))
    AND state != 'open' AND labelled_at >= fromUnixTimestamp64Micro({since:Int64}, 'UTC')"""
_COUNT = f"SELECT count() FROM gyre.label_states WHERE {_WANTED}"  # noqa: S608 - with parameters alone
_REQUESTS = f"""
WITH
    standing AS (
        SELECT
            tenant, task, request_id,
            arraySort(each -> (each.labelled_at, each.label_id), groupArray(CAST(
                (label_id, kind, expert, labelled_at, outcome, answer, comment, seconds_spent, guideline_version),
                'Tuple(label_id String, kind String, expert String, labelled_at DateTime64(6, \\'UTC\\'),
                    outcome String, answer String, comment String, seconds_spent Float64, guideline_version String)'
            ))) AS labels
        FROM (
            SELECT * FROM gyre.labels
            WHERE outcome IN ('confirmed', 'corrected', 'unsafe', 'escalated') AND kind != 'gold'
                AND label_id NOT IN (SELECT label_id FROM gyre.labels WHERE outcome = 'retracted')
            LIMIT 1 BY label_id
        )
        GROUP BY tenant, task, request_id
    ),
    wanted AS (
        SELECT tenant, task, request_id, toString(state) AS state, labels
        FROM standing
        INNER JOIN (SELECT tenant, task, request_id, state FROM gyre.label_states WHERE {_WANTED}) AS states
            USING (tenant, task, request_id)
    )
SELECT
    request_id, tenant, task, sensitivity, messages, tools, answer, model, model_version, state, labels
FROM gyre.edge_cases AS cases
INNER JOIN wanted USING (tenant, task, request_id)
LIMIT 1 BY request_id
"""  # noqa: S608 - with parameters alone
_KNOWN = """
SELECT request_id, any(tenant) AS tenant, any(task) AS task, any(sensitivity) AS sensitivity, max(is_case) AS is_case
FROM (
    SELECT request_id, tenant, task, sensitivity, 1 AS is_case FROM gyre.edge_cases
    WHERE request_id IN {ids:Array(String)}
    UNION ALL
    SELECT request_id, tenant, task, sensitivity, 0 FROM gyre.router_interactions_v1
    WHERE request_id IN {ids:Array(String)} AND _error = '' AND phase = 'finished'
)
GROUP BY request_id
"""
_LABELS = """
SELECT request_id, expert, labelled_at, outcome, answer, comment FROM gyre.labels
WHERE request_id IN {ids:Array(String)} AND outcome != 'retracted'
"""
_ERASED = "SELECT DISTINCT request_id FROM gyre.erasures WHERE request_id IN {ids:Array(String)} AND is_whole"


class RecordError(Exception):
    """The record cannot be read; the message says why."""


@dataclass(frozen=True)
class Filters:
    """Which requests are wanted.

    Attributes:
        tenant: Whose; empty: anybody's.
        task: What for; empty: anything.
        states: What their labels come to; empty: anything but open.
        since: Only those of which a label was given or taken back since then; None: whenever.
    """

    tenant: str = ""
    task: str = ""
    states: tuple[str, ...] = ()
    since: datetime | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        """They, as the statements name them."""
        since = int(self.since.timestamp() * 1_000_000) if self.since else 0
        return {"tenant": self.tenant, "task": self.task, "states": list(self.states), "since": since}


@dataclass(frozen=True)
class Known:
    """What is on record of a request.

    Attributes:
        tenant: Whose; empty: it is not on record.
        task: What for.
        sensitivity: How far it may travel.
        is_case: Whether the trainer knows it, for it is an edge case.
        erased: Whether it was to be forgotten.
        labels: What experts said, also what was taken back since.
    """

    tenant: str = ""
    task: str = ""
    sensitivity: Sensitivity = Sensitivity.PUBLIC
    is_case: bool = False
    erased: bool = False
    labels: tuple[GivenLabel, ...] = ()


class Record:
    """The record of labels. Every method raises `RecordError` where ClickHouse does not answer, or refuses."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @classmethod
    def at(cls, settings: ClickHouseSettings) -> Self:
        """Connect to ClickHouse's HTTP port."""
        address = urlsplit(settings.url)
        with _explained():
            return cls(
                clickhouse_connect.get_client(
                    host=address.hostname or "127.0.0.1",
                    port=address.port or 8123,
                    secure=settings.is_encrypted,
                    ca_cert=str(settings.ca) if settings.ca else None,
                    username=settings.user,
                    password=settings.password.get_secret_value(),
                    autogenerate_session_id=False,
                )
            )

    def count(self, filters: Filters) -> int:
        """Return how many requests are wanted."""
        with _explained():
            return int(self._client.query(_COUNT, parameters=filters.parameters).result_rows[0][0])

    def requests(self, filters: Filters) -> Iterator[tuple[str, LabelledRequest | InvalidItemError]]:
        """Yield the wanted requests, after their ids, with the labels that stand, or why no file can hold one."""
        with _explained():
            stream: Any = self._client.raw_stream(
                _REQUESTS, parameters=filters.parameters, fmt="JSONEachRow", settings=_SETTINGS
            )
            rest = b""
            while piece := stream.read(_PIECE_BYTES):
                *lines, rest = (rest + piece).split(b"\n")
                yield from map(_request, lines)
            if rest:  # in the middle of an answer it can only say so there
                raise RecordError(f"ClickHouse broke off: {rest[:500].decode(errors='replace')}")

    def known(self, request_ids: Sequence[str]) -> dict[str, Known]:
        """Return what is on record of requests."""
        ids = {"ids": list(request_ids)}
        with _explained():
            found = {row["request_id"]: row for row in self._client.query(_KNOWN, parameters=ids).named_results()}
            said = list(self._client.query(_LABELS, parameters=ids).named_results())
            erased = {request_id for (request_id,) in self._client.query(_ERASED, parameters=ids).result_rows}
        labels: dict[str, list[GivenLabel]] = {}
        for row in said:
            at = row.pop("labelled_at").replace(tzinfo=UTC)
            labels.setdefault(row.pop("request_id"), []).append(GivenLabel.model_construct(**row, labelled_at=at))
        return {
            request_id: Known(
                tenant=row.get("tenant", ""),
                task=row.get("task", ""),
                sensitivity=Sensitivity(row.get("sensitivity", Sensitivity.PUBLIC)),
                is_case=bool(row.get("is_case")),
                erased=request_id in erased,
                labels=tuple(labels.get(request_id, ())),
            )
            for request_id in request_ids
            for row in [found.get(request_id, {})]
        }


def _request(line: bytes) -> tuple[str, LabelledRequest | InvalidItemError]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise RecordError(f"ClickHouse broke off: {line[:500].decode(errors='replace')}") from error
    try:
        return row["request_id"], LabelledRequest.model_validate(row)
    except ValidationError as error:
        return row["request_id"], InvalidItemError(problem(each) for each in error.errors())


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (ClickHouseError, OSError) as error:
        raise RecordError(f"ClickHouse: {error}") from error
