"""Triage without accounts, as somebody first starts it: it answers this machine, and says so."""

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import psutil
import pytest

from gyre.api.triage.v1 import review_pb2 as pb
from gyre.api.triage.v1.review_pb2_grpc import ReviewStub
from services.runtime.rpc import channel
from tests.integration.triage.conftest import Process
from tests.integration.triage.console import browser


@pytest.fixture(scope="module")
async def alone(kafka: str, models: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Process]:
    """A triage that listens on every address of the machine, as far as it dares."""
    process = Process(
        kafka,
        models,
        tmp_path_factory.mktemp("alone"),
        GYRE_TRIAGE_ACCOUNTS="",
        GYRE_TRIAGE_HOST="0.0.0.0",
        GYRE_TLS_DIR="none",
    )
    await process.start()
    yield process
    process.stop()


def _address_of_this_machine() -> str:
    """An address that is not loopback's."""
    addresses = [each.address for of in psutil.net_if_addrs().values() for each in of if each.family is socket.AF_INET]
    found = [address for address in addresses if not address.startswith("127.")]
    if not found:
        pytest.skip("this machine has no address beyond loopback")
    return found[0]


def test_the_console_says_that_it_answers_this_machine_alone(alone: Process) -> None:
    with browser(alone) as opened:
        page = opened.get("/")
        assert "the console answers this machine alone" in page.text
        assert opened.get("/overview").status_code == 503  # an admin's, who has no ClickHouse here
        assert opened.post("/claim").status_code in (200, 404, 503)
        assert opened.client.post("/claim", data={"csrf": "made up"}).status_code == 403
    assert "this machine alone is answered" in alone.log.read_text()


def test_a_name_that_another_site_points_at_this_machine_opens_nothing(alone: Process) -> None:
    with browser(alone) as opened:
        for host in ("evil.example.org", f"evil.example.org:{alone.console_port}"):
            answer = opened.get("/", headers={"Host": host})
            assert answer.status_code == 403
            assert "csrf" not in answer.text


async def test_calls_from_this_machine_alone_are_answered(alone: Process) -> None:
    port = alone.target.rpartition(":")[2]
    async with channel(f"{_address_of_this_machine()}:{port}") as to:
        with pytest.raises(grpc.aio.AioRpcError, match="this machine alone is answered") as error:
            await ReviewStub(to).Claim(pb.ClaimRequest(), timeout=10)
    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED
    async with channel(alone.target) as to:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await ReviewStub(to).Skip(pb.SkipRequest(lease="x", reason="x"), timeout=10)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_the_console_does_not_listen_beyond_this_machine(alone: Process) -> None:
    with socket.socket() as probe:
        assert probe.connect_ex((_address_of_this_machine(), alone.console_port)) != 0
