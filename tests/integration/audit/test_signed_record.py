"""The record of a running audit, taken out and checked with the public key; and a person taken out of it."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from grpc import StatusCode
from grpc.aio import AioRpcError
from msgspec.structs import replace

from gyre.api.audit.v1 import audit_pb2
from gyre.cli import main
from gyre.cli.who import account
from schemas.events import Candidate, Event, Message
from schemas.ledger.notes import SigningKey
from schemas.topics import Topic
from services.runtime.clickhouse import ClickHouse
from services.runtime.kafka import Producer
from services.runtime.settings import ClickHouseSettings
from tests.integration.audit.record import eventually
from tests.integration.audit.story import interaction, story
from tests.integration.service_process import ServiceProcess

if TYPE_CHECKING:  # exists for type checkers alone
    from gyre.api.audit.v1.audit_pb2_grpc import AuditAsyncStub


class Auditor:
    """The `gyre audit` command, as an auditor and an operator run it."""

    def __init__(self, clickhouse: ClickHouseSettings, target: str, key: SigningKey) -> None:
        self._key = str(key.verifying)
        self._target = target
        self._environment = {
            "GYRE_CLICKHOUSE_URL": clickhouse.url,
            "GYRE_CLICKHOUSE_PASSWORD": clickhouse.password.get_secret_value(),
        }

    async def run(self, *arguments: str | Path) -> Result:
        return await asyncio.to_thread(
            CliRunner().invoke, main, ["audit", *map(str, arguments)], env=self._environment, catch_exceptions=False
        )

    async def export(self, folder: Path) -> str:
        result = await self.run("export", folder)
        assert result.exit_code == 0, result.output
        return result.output

    async def verify(self, path: Path, *options: str | Path, key: str = "") -> Result:
        return await self.run("verify", path, "--key", key or self._key, *options)

    async def ask(self, command: str, *arguments: str) -> Result:
        return await self.run(command, *arguments, "--target", self._target)


@pytest.fixture
async def auditor(
    audit: AuditAsyncStub, audit_process: ServiceProcess, clickhouse: ClickHouseSettings, signing_key: SigningKey
) -> Auditor:
    return Auditor(clickhouse, audit_process.target, signing_key)


async def signed(database: ClickHouse, request_id: str, count: int) -> bool:
    """Whether so many records of a request are on record and covered by checkpoints."""
    rows = await database.rows(
        "SELECT count() AS covered FROM gyre.router_interactions_v1 AS rows INNER JOIN "
        "(SELECT chain, max(last_offset) AS last_offset FROM gyre.checkpoints GROUP BY chain) AS signed "
        "ON signed.chain = concat(rows._topic, '/', toString(rows._partition)) "
        "WHERE request_id = {id:String} AND toInt64(_offset) <= last_offset",
        {"id": request_id},
    )
    return int(rows[0]["covered"]) == count


async def test_an_export_of_the_record_is_whole_and_what_is_changed_afterwards_is_found(
    auditor: Auditor, database: ClickHouse, producer: Producer, kept_checkpoints: Path, tmp_path: Path
) -> None:
    request_id = str(uuid.uuid4())
    await producer.send(Topic.INTERACTIONS, interaction(request_id))
    await eventually(lambda: signed(database, request_id, 1))

    assert "Wrote " in await auditor.export(tmp_path / "whole")
    result = await auditor.verify(tmp_path / "whole", "--checkpoints", kept_checkpoints)
    assert result.exit_code == 0, result.output
    assert "rows are as they were recorded and signed" in result.output

    stranger = await auditor.verify(tmp_path / "whole", key=str(SigningKey.generate("stranger").verifying))
    assert stranger.exit_code == 1
    assert "and by none of the keys given" in stranger.output

    (row,) = await database.rows(
        "SELECT _partition, _offset, hex(_payload) AS payload FROM gyre.router_interactions_v1 "
        "WHERE request_id = {id:String}",
        {"id": request_id},
    )
    at = {"partition": row["_partition"], "offset": row["_offset"]}
    change = (
        "ALTER TABLE gyre.router_interactions_v1 UPDATE _payload = unhex({payload:String}) "
        "WHERE _partition = {partition:UInt32} AND _offset = {offset:UInt64} SETTINGS mutations_sync = 2"
    )
    await database.command(change, {**at, "payload": row["payload"][:-2] + "FF"})
    try:
        await auditor.export(tmp_path / "changed")
    finally:
        await database.command(change, {**at, "payload": row["payload"]})
    result = await auditor.verify(tmp_path / "changed")
    assert result.exit_code == 1
    place = f"{Topic.INTERACTIONS}/{row['_partition']} at offset {row['_offset']}: its key, payload or salt was changed"
    assert place in result.output


async def test_a_request_is_proven_to_whoever_has_the_public_key(
    auditor: Auditor, database: ClickHouse, producer: Producer, tmp_path: Path
) -> None:
    request_id = str(uuid.uuid4())
    await producer.send(Topic.INTERACTIONS, interaction(request_id, phase="opened"))
    await producer.send(Topic.INTERACTIONS, interaction(request_id))
    await eventually(lambda: signed(database, request_id, 2))

    result = await auditor.ask("prove", request_id)
    assert result.exit_code == 0, result.output
    proof = tmp_path / "proof.json"
    proof.write_text(result.output)
    assert (await auditor.verify(proof)).output.count("on record, with this content, first signed") == 2
    proof.write_text(result.output.replace('"index": ', '"index": 1'))
    assert "Error: router.interactions.v1/" in (await auditor.verify(proof)).output
    assert "nothing is on record of" in (await auditor.ask("prove", str(uuid.uuid4()))).output


async def test_a_candidate_is_proven_with_its_deployment(auditor: Auditor, producer: Producer, tmp_path: Path) -> None:
    told = [(topic, event) for topic, event in story()[1] if topic in (Topic.CANDIDATES, Topic.DEPLOYMENTS)]
    for topic, event in told:
        await producer.send(topic, event)
    candidate_id = told[0][1].candidate_id

    async def is_signed() -> bool:
        return (await auditor.ask("prove", candidate_id)).output.count('"index"') == 2

    await eventually(is_signed)
    proof = tmp_path / "proof.json"
    proof.write_text((await auditor.ask("prove", candidate_id)).output)
    result = await auditor.verify(proof)
    assert result.output.startswith(f"Of {candidate_id}:\n  trainer.candidates.v1/0 at offset ")
    assert result.output.count("on record, with this content, first signed") == 2


async def test_a_person_is_taken_out_of_the_record_which_stays_whole(
    audit: AuditAsyncStub, auditor: Auditor, database: ClickHouse, producer: Producer, tmp_path: Path
) -> None:
    marker, tenant = f"marker{uuid.uuid4().hex}", f"tenant-{uuid.uuid4()}"
    request_id, records = story()
    events = [(topic, personal(event, request_id, tenant, marker)) for topic, event in records]
    for topic, event in events:
        if topic is not Topic.ERASURES:
            await producer.send(topic, event)
    other = replace(interaction(str(uuid.uuid4())), tenant=tenant, user="somebody-else")
    await producer.send(Topic.INTERACTIONS, other)
    await eventually(lambda: signed(database, other.request_id, 1))

    async def all_there() -> bool:
        return {table for table, rows in (await found(database, marker)).items() if rows} == {
            f"{topic.replace('.', '_').replace('-', '_')}"
            for topic in (
                Topic.INTERACTIONS,
                Topic.FEEDBACK,
                Topic.SHADOWS,
                Topic.EDGE_CASES,
                Topic.LABELS,
                Topic.OUTCOMES,
            )
        }

    await eventually(all_there)

    result = await auditor.ask("erase", tenant, marker, "--yes")

    assert result.exit_code == 0, result.output
    assert "Erased 6 rows of 1 requests" in result.output
    candidate = next(event for _, event in events if isinstance(event, Candidate))
    assert candidate.candidate_id in result.output
    assert not any((await found(database, marker)).values())
    asked_by = "SELECT asked_by FROM gyre.erasures WHERE tenant = {tenant:String}"
    assert await database.rows(asked_by, {"tenant": tenant}) == [{"asked_by": account()}]
    # One more whose run was under way, told after the erasure, and measured on it besides.
    later = replace(candidate, candidate_id=str(uuid.uuid4()), holdout_request_ids=(request_id,))
    await producer.send(Topic.CANDIDATES, later)

    async def to_be_made_anew() -> list[dict[str, Any]]:
        return await database.rows(
            "SELECT candidate_id, learned_from, measured_on FROM gyre.retraining "
            "WHERE candidate_id IN ({first:String}, {later:String}) ORDER BY measured_on",
            {"first": candidate.candidate_id, "later": later.candidate_id},
        )

    async def both() -> bool:
        return len(await to_be_made_anew()) == 2

    await eventually(both)
    assert await to_be_made_anew() == [
        {"candidate_id": candidate.candidate_id, "learned_from": 1, "measured_on": 0},
        {"candidate_id": later.candidate_id, "learned_from": 1, "measured_on": 1},
    ]

    await auditor.export(tmp_path / "export")
    verified = await auditor.verify(tmp_path / "export")
    assert verified.exit_code == 0, verified.output
    assert marker not in verified.output
    assert not [
        path for path in (tmp_path / "export").rglob("*") if path.is_file() and marker.encode() in path.read_bytes()
    ]
    proof = tmp_path / "proof.json"
    proof.write_text((await auditor.ask("prove", request_id)).output)
    assert (await auditor.verify(proof)).output.count("its content was erased") == 6
    rows = await database.rows(
        "SELECT answer FROM gyre.interactions WHERE tenant = {tenant:String}", {"tenant": tenant}
    )
    assert [row["answer"] for row in rows] == [other.answer]

    with pytest.raises(AioRpcError) as raised:
        await audit.Erase(audit_pb2.EraseRequest(tenant=tenant, subject=marker))
    assert raised.value.code() is StatusCode.NOT_FOUND


def personal(event: Event, request_id: str, tenant: str, marker: str) -> Any:
    """An event of a story as one of a person's, with the marker in all that is said."""
    if getattr(event, "request_id", "") != request_id:
        return event
    said: dict[str, Any] = {
        "tenant": tenant,
        "user": marker,
        "messages": (Message(role="user", content=f"I am {marker}"),),
        "answer": f"Hello {marker}",
        "question": f"I am {marker}",
        "text": f"said {marker}",
        "comment": f"of {marker}",
        "model_answer": marker,
        "conversation_id": marker,
    }
    return replace(event, **{name: value for name, value in said.items() if name in event.__struct_fields__})


async def found(database: ClickHouse, marker: str) -> dict[str, int]:
    """In how many rows of each table any column holds the marker."""
    tables = await database.rows("SELECT name FROM system.tables WHERE database = 'gyre' AND engine LIKE '%MergeTree'")
    counts = {}
    for table in tables:
        (row,) = await database.rows(
            "SELECT countIf(position(toString(tuple(*)), {marker:String}) > 0) AS rows FROM gyre.{table:Identifier}",
            {"table": table["name"], "marker": marker},
        )
        counts[table["name"]] = row["rows"]
    return counts
