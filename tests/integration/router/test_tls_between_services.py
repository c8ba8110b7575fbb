"""Router and governance as processes of their own, which speak by TLS, each with a certificate of its own."""

from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gyre.client import AsyncClient, Retries
from gyre.client import Tls as ClientTls
from schemas.events import BundlePublished
from schemas.topics import Topic
from services.runtime.kafka import Producer
from services.runtime.rpc import wait_serving
from services.runtime.settings import KafkaSettings
from tests.certificates import Folders
from tests.conftest import broker
from tests.integration.router.test_replicas import KEY, bundle, stand_in_model
from tests.integration.service_process import ServiceProcess


@dataclass
class Served:
    governance: ServiceProcess
    router: ServiceProcess
    folders: Folders

    async def text(self, ca_file: Path) -> str:
        """Return what an application is answered that believes a CA."""
        tls, port = ClientTls.believing(ca_file), self.router.target.rpartition(":")[2]
        async with AsyncClient(f"localhost:{port}", KEY, tls=tls, retries=Retries(attempts=1)) as client:
            return (await client.complete("Are you there?")).text


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    folders = Folders(tmp_path)
    with broker(tmp_path / "state") as kafka, ExitStack() as stack:
        async with stand_in_model() as url:
            async with Producer(KafkaSettings(bootstrap_servers=kafka)) as producer:
                await producer.send(
                    Topic.BUNDLES,
                    BundlePublished(
                        version="b1", published_at=datetime.now(UTC), content=bundle(url).model_dump_json()
                    ),
                )
            environment = {"GYRE_KAFKA_BOOTSTRAP_SERVERS": kafka, "GYRE_CONTEXT_TARGET": "127.0.0.1:1"}
            # Plain would be refused on this host: the processes serve by TLS, or not at all.
            governance = stack.enter_context(
                ServiceProcess(
                    "governance",
                    tmp_path / "governance.log",
                    environment | {"GYRE_TLS_DIR": str(folders.of("governance")), "GYRE_GOVERNANCE_HOST": "0.0.0.0"},
                )
            )
            router = stack.enter_context(
                ServiceProcess(
                    "router",
                    tmp_path / "router.log",
                    environment
                    | {
                        "GYRE_TLS_DIR": str(folders.of("router")),
                        "GYRE_ROUTER_HOST": "0.0.0.0",
                        "GYRE_ROUTER_HTTP_PORT": "0",
                        "GYRE_GOVERNANCE_TARGET": governance.exchange_target,
                    },
                )
            )
            for identity, process in (("governance", governance), ("router", router)):
                await wait_serving(process.target, 90, folders.tls(identity))
            yield Served(governance, router, folders)


async def test_a_request_crosses_every_network_by_tls_also_with_certificates_of_a_new_ca(served: Served) -> None:
    assert await served.text(served.folders.ca_file)
    new = served.folders.with_a_new_ca()
    for identity in ("router", "governance"):
        served.folders.replace(identity, new.of(identity))
    served.governance.stop()
    served.governance.start()
    await wait_serving(served.governance.target, 90, new.tls("governance"))
    assert await served.text(new.ca_file)
