"""The services' own classes, and three of the services, at work under identities of their own."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from click.testing import CliRunner
from pydantic import SecretStr

from embedded.environment import clickhouse_password
from embedded.ports import free_ports, stack_ports
from embedded.settings import Settings
from embedded.stack import Stack
from gyre.cli import main
from schemas.events import BundlePublished, Candidate, Deployment, EdgeCase
from schemas.topics import Topic
from services.runtime.clickhouse import ClickHouse
from services.runtime.errors import Rejected
from services.runtime.kafka import Follower, Outgoing, Producer, Transformer, connection
from services.runtime.settings import ClickHouseSettings
from tests.integration.audit.story import story
from tests.integration.identities.broker import Broker, password
from tests.integration.service_process import ServiceProcess
from tests.unit.triage.builders import NOW, bundle, interaction

# Those with groups, transactions or snapshots; what the others do is following and sending, as the classes do above.
SERVICES = ("context", "audit", "triage")
ASKED = 40


@pytest.fixture(scope="module")
def own_clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A ClickHouse of its own, for a record goes with one Kafka."""
    stack = Stack(Settings(state_dir=tmp_path_factory.mktemp("identities"), ports=stack_ports()))
    stack.start(("clickhouse",))
    yield stack
    stack.stop()


@pytest.fixture(scope="module")
def services(
    broker: Broker, models: Path, own_clickhouse: Stack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, ServiceProcess]]:
    """Each with its password in a folder of secrets, and nobody else's."""
    with ExitStack() as processes:
        started = {}
        for name in SERVICES:
            folder = tmp_path_factory.mktemp(name)
            secrets = folder / "secrets"
            secrets.mkdir()
            (secrets / "gyre_kafka_password").write_text(f"{password(name)}\n")
            own = clickhouse_of(own_clickhouse, _clickhouse_user(name))
            (secrets / "GYRE_CLICKHOUSE_PASSWORD").write_text(own.password.get_secret_value())
            told = broker.environment(name)
            del told["GYRE_KAFKA_PASSWORD"]
            http_port, console_port = free_ports(2)
            environment = {
                **told,
                "GYRE_SECRETS_DIR": str(secrets),
                "GYRE_MODELS_DIR": str(models),
                "GYRE_ARTIFACTS_DIR": str(folder / "artifacts"),
                "GYRE_CLICKHOUSE_URL": own.url,
                "GYRE_CLICKHOUSE_USER": own.user,
                "GYRE_ROUTER_HTTP_PORT": str(http_port),
                "GYRE_TRIAGE_CONSOLE_PORT": str(console_port),
                "GYRE_TRIAGE_DATA_DIR": str(folder / "data"),
            }
            started[name] = processes.enter_context(ServiceProcess(name, folder / "log", environment))
        yield started


def clickhouse_of(stack: Stack, user: str) -> ClickHouseSettings:
    return ClickHouseSettings(
        url=f"http://{stack.settings.address('GYRE_EMBEDDED_CLICKHOUSE_PORT')}",
        user=user,
        password=SecretStr(clickhouse_password(stack.settings, user)),
    )


def _clickhouse_user(name: str) -> str:
    return "audit" if name == "audit" else "triage"


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.2)


async def test_what_one_writes_another_reads_and_answers_in_a_transaction(broker: Broker) -> None:
    events = [event for _, event in story()[1]]
    candidate = next(event for event in events if isinstance(event, Candidate))
    deployment = next(event for event in events if isinstance(event, Deployment))
    seen: list[Deployment] = []

    async def decide(found: Candidate) -> list[Outgoing]:
        if found.candidate_id == "refused":
            raise Rejected("not this one")
        return [Outgoing(Topic.DEPLOYMENTS, deployment)]

    serving = Transformer(broker.settings("serving"), "serving", {Topic.CANDIDATES: decide})
    router = Follower(broker.settings("router"), {Topic.DEPLOYMENTS: seen.append})
    loops = [asyncio.create_task(serving.run()), asyncio.create_task(router.run())]
    try:
        async with Producer(broker.settings("trainer")) as trainer:
            await trainer.send(Topic.CANDIDATES, candidate)
            await trainer.send(Topic.CANDIDATES, _renamed(candidate, "refused"))

        async def has_come() -> bool:
            assert not any(loop.done() for loop in loops)
            return deployment in seen

        await until(has_come)
        await until(lambda: _letters(broker, Topic.CANDIDATES, {"serving"}))
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)


@pytest.mark.timeout(400)
async def test_every_service_does_its_work_as_itself_over_tls(
    broker: Broker, services: Mapping[str, ServiceProcess], own_clickhouse: Stack
) -> None:
    published = bundle(share=1.0)
    async with Producer(broker.settings("operator")) as operator:
        event = BundlePublished(version=published.version, published_at=NOW, content=published.model_dump_json())
        await operator.send(Topic.BUNDLES, event)
    await asyncio.gather(*(process.serving(300) for process in services.values()))
    async with Producer(broker.settings("router")) as router:
        for number in range(ASKED):
            await router.send(Topic.INTERACTIONS, interaction(f"r{number}"))
    async with AIOKafkaProducer(**connection(broker.settings("router"))) as raw:
        await raw.send_and_wait(str(Topic.INTERACTIONS), b"no event", key=b"bad")

    picked: list[EdgeCase] = []
    trainer = asyncio.create_task(Follower(broker.settings("trainer"), {Topic.EDGE_CASES: picked.append}).run())
    database = ClickHouse(clickhouse_of(own_clickhouse, "audit"))

    async def is_on_record() -> bool:
        rows = await database.rows(
            "SELECT count() AS rows, countIf(_error != '') AS bad FROM gyre.router_interactions_v1 "
            "WHERE request_id LIKE 'r%' OR _key = 'bad'"
        )
        return rows[0] == {"rows": ASKED + 1, "bad": 1}

    async def are_picked() -> bool:
        return bool(picked)

    try:
        await until(are_picked)
        await until(is_on_record)
        await until(lambda: _letters(broker, Topic.INTERACTIONS, {"audit", "triage"}))
    finally:
        trainer.cancel()
        await asyncio.gather(trainer, return_exceptions=True)
        await database.close()


async def _letters(broker: Broker, topic: Topic, hops: set[str]) -> bool:
    """Whether an operator finds dead letters of a topic by all of some services."""
    result = await asyncio.to_thread(
        CliRunner().invoke, main, ["dlq", "list", "--topic", str(topic)], env=broker.environment("operator")
    )
    assert result.exit_code == 0, result.output
    return all(hop in result.output for hop in hops)


def _renamed(candidate: Candidate, candidate_id: str) -> Any:
    from msgspec.structs import replace

    return replace(candidate, candidate_id=candidate_id)
