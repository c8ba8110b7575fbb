"""All of Gyre on this machine, as `gyre up` starts it, and those who use it: applications, analysts, operators."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import clickhouse_connect
import grpc
import pytest
from openai import APIError, OpenAI
from openai.types.chat import ChatCompletion

from embedded.environment import clickhouse_password, replayed_expert_token
from embedded.parts import PARTS
from embedded.ports import stack_ports
from embedded.settings import HOST, Settings
from embedded.stack import PartStatus, Stack
from embedded.supervision import Supervisor
from gyre.api.audit.v1 import audit_pb2, audit_pb2_grpc
from gyre.demo.play import DEMO_KEY
from gyre.demo.story import TASK as CALLS
from gyre.demo.story import TENANT
from schemas import clickhouse as ddl
from schemas.bundle import Bundle, load_bundle
from schemas.events import BundlePublished
from schemas.topics import Topic
from services.runtime.kafka import Producer
from services.runtime.settings import KafkaSettings

TEXT = "small-talk"
CAREFUL = "careful-talk"  # whose specialists begin in the shadow
SHADOW_REQUESTS = 40
SMALL = "small"
LABELS_NEEDED = 16
HOLDOUT_MINIMUM = 4
CALL_SECONDS = 30.0
# An application that is told to try again later does so for about a minute.
RETRIES = 12

T = TypeVar("T")


def wait_for(look: Callable[[], T], seconds: float = 60.0) -> T:
    """Look until there is something, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not so after {seconds:.0f} s: {look}"
        time.sleep(0.2)
    return found


def small_bundle() -> Bundle:
    """The sample bundle with numbers that a test can wait for, and a task that is answered in plain text.

    Experts are asked about everything, so that what reaches them does not depend on chance; any candidate that was
    compared on a few requests goes live.
    """
    content = load_bundle(Path("deploy/bundle")).model_dump()
    content["tenants"][TENANT]["experts"]["share"] = 1.0
    content["applications"]["concierge"]["tasks"] = [TEXT, CALLS, CAREFUL]
    content["models"][SMALL]["max_tokens"] = 400
    content["tasks"][CALLS]["max_tokens"] = 64
    content["tasks"][CALLS]["learning"] = {
        "labels_needed": LABELS_NEEDED,
        "holdout_share": 0.3,
        "holdout_minimum": HOLDOUT_MINIMUM,
        "minimum_gain": -1.0,
    }
    content["tasks"][TEXT] = {
        "tenant": TENANT,
        "answers": "text",
        "generic_prompt": "You are a helpful assistant.",
        "specialist_prompt": "You are a helpful assistant.",
        "max_tokens": 400,
    }
    rollout = {"shadow_requests": SHADOW_REQUESTS}
    content["tasks"][CAREFUL] = {**content["tasks"][TEXT], "learning": {"labels_needed": 1000, "rollout": rollout}}
    return Bundle.model_validate(content)


class WholeStack:
    """A stack that runs."""

    def __init__(self, stack: Stack, bundle: Bundle) -> None:
        self.stack = stack
        self.bundle = bundle

    @property
    def router_url(self) -> str:
        """Where applications send their requests."""
        return f"http://{self.stack.settings.address('GYRE_ROUTER_HTTP_PORT')}"

    def address(self, service: str) -> str:
        """Where a service answers gRPC, as host:port."""
        return self.stack.settings.address(f"GYRE_{service.upper()}_GRPC_PORT")

    def channel(self, service: str) -> grpc.Channel:
        """Return a channel to a service."""
        return grpc.insecure_channel(self.address(service))

    @property
    def expert(self) -> tuple[tuple[str, str]]:
        """What an expert who may see everything shows to triage, as a call's metadata."""
        return (("authorization", f"Bearer {replayed_expert_token(self.stack.settings)}"),)

    def openai(self, key: str = DEMO_KEY, retries: int = 0) -> OpenAI:
        """Return the openai SDK as an application sets it up."""
        return OpenAI(base_url=f"{self.router_url}/v1", api_key=key, max_retries=retries, timeout=CALL_SECONDS)

    def ask(self, text: str, retries: int = 0, max_tokens: int = 8) -> ChatCompletion:
        """Ask for a short answer in plain text."""
        with self.openai(retries=retries) as client:
            return client.chat.completions.create(
                model="auto", messages=[{"role": "user", "content": text}], max_tokens=max_tokens, temperature=0
            )

    @cached_property
    def analyst(self) -> Any:
        """ClickHouse's own client, as the user who may only read."""
        return clickhouse_connect.get_client(
            host=HOST,
            port=self.stack.settings.port("GYRE_EMBEDDED_CLICKHOUSE_PORT"),
            username="analyst",
            password=clickhouse_password(self.stack.settings, "analyst"),
        )

    def rows(self, query: str, **parameters: Any) -> list[dict[str, Any]]:
        """What the analyst reads."""
        return list(self.analyst.query(query, parameters=parameters).named_results())

    def interaction(self, request_id: str, state: str = "finished", seconds: float = 10.0) -> dict[str, Any]:
        """Wait for the one row that a request has on record."""
        query = "SELECT * FROM gyre.interactions WHERE request_id = {id:String} AND state = {state:String}"
        (row,) = wait_for(lambda: self.rows(query, id=request_id, state=state), seconds)
        return row

    def assert_every_chain_is_intact(self) -> None:
        """Have audit recompute every chain, and see for ourselves that no record is there twice."""
        with self.channel("audit") as channel:
            audit = audit_pb2_grpc.AuditStub(channel)
            for topic in Topic:
                chains = self.rows(
                    "SELECT _partition, count() AS stored, uniqExact(_offset) AS records FROM gyre.{table:Identifier} "
                    "GROUP BY _partition",
                    table=ddl.table(topic),
                )
                for chain in chains:
                    assert chain["stored"] == chain["records"], topic
                    verdict = audit.Verify(
                        audit_pb2.VerifyRequest(topic=topic, partition=chain["_partition"]), timeout=CALL_SECONDS
                    )
                    # More may have been stored since.
                    assert verdict.intact, (topic, chain, verdict)
                    assert verdict.rows >= chain["stored"], (topic, chain, verdict)

    def states(self) -> dict[str, PartStatus]:
        """How each part is."""
        return {status.part.name: status for status in self.stack.status()}

    def wait_ready(self, names: Collection[str] = PARTS, seconds: float = 60.0) -> None:
        """Wait until parts are ready, all at the same time."""

        def ready() -> bool:
            states = self.states()
            return all(states[name].state == "ready" for name in names)

        wait_for(ready, seconds)

    def kill(self, name: str) -> None:
        """End a part without warning, and wait until its supervisor has it ready again."""
        pid = self.states()[name].pid
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: self.states()[name].pid not in (0, pid))
        self.wait_ready([name])

    def stop(self, name: str) -> None:
        """Stop a part, and wait until it has stopped."""
        Supervisor(self.stack.settings).stop(name)
        wait_for(lambda: self.states()[name].state == "stopped")


@asynccontextmanager
async def started(
    folder: Path,
    bundle: Bundle,
    parts: Collection[str] = PARTS,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[WholeStack]:
    """Start parts and publish a bundle; stop everything in the end."""
    ports = stack_ports()
    stack = Stack(Settings(state_dir=folder, ports=ports))
    try:
        with pytest.MonkeyPatch.context() as patch:
            # What the stack is started with, its parts inherit.
            for name, value in {"GYRE_TRAINER_EPOCHS": "1", **environment}.items():
                patch.setenv(name, value)
            stack.start(parts)
        kafka = KafkaSettings(bootstrap_servers=stack.settings.address("GYRE_EMBEDDED_KAFKA_PORT"))
        async with Producer(kafka) as producer:
            published = BundlePublished(
                version=bundle.version, published_at=datetime.now(UTC), content=bundle.model_dump_json()
            )
            await producer.send(Topic.BUNDLES, published)
        yield WholeStack(stack, bundle)
    finally:
        stack.stop()


@asynccontextmanager
async def running(
    folder: Path, bundle: Bundle, environment: Mapping[str, str] = MappingProxyType({})
) -> AsyncIterator[WholeStack]:
    """Start everything, publish a bundle, and wait until the router answers; stop everything in the end."""
    async with started(folder, bundle, environment=environment) as whole:
        wait_for(lambda: answers(whole), seconds=120)
        yield whole


def answers(whole: WholeStack) -> bool:
    """Whether the router answers."""
    try:
        whole.ask("Hello")
    except APIError:
        return False
    return True


@pytest.fixture(scope="package")
async def gyre(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WholeStack]:
    """The whole stack, for the tests of one folder and not beyond them."""
    async with running(tmp_path_factory.mktemp("whole"), small_bundle()) as whole:
        yield whole
