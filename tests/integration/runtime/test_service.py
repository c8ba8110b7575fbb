"""The life of a service process."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from embedded.ports import free_ports
from tests.certificates import Folders


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_service_that_waits_for_kafka_can_be_stopped(number: signal.Signals) -> None:
    (nobody,) = free_ports(1)
    environment = {**os.environ, "GYRE_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{nobody}", "GYRE_ROUTER_METRICS_PORT": "0"}
    process = subprocess.Popen(
        [sys.executable, "-m", "services.router"], env=environment, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert any('"event": "waiting"' in line for line in process.stderr)
    process.send_signal(number)
    assert process.wait(timeout=30) == 0


def cannot_start(**environment: str) -> str:
    """Return what governance says when it does not start, which is one line."""
    ended = subprocess.run(
        [sys.executable, "-m", "services.governance"],
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    told = json.loads(line)
    assert told["event"] == "cannot start"
    return str(told["error"])


def test_a_service_does_not_start_in_the_clear_where_others_come() -> None:
    assert cannot_start(GYRE_GOVERNANCE_HOST="0.0.0.0") == (
        "GYRE_GOVERNANCE_HOST is '0.0.0.0', where others come, and there is no TLS: set GYRE_TLS_DIR to a folder with "
        "tls.crt, tls.key and ca.crt (gyre certificates makes one), or to none where plain is meant"
    )


def test_a_service_does_not_start_with_a_certificate_of_another(tmp_path: Path) -> None:
    assert cannot_start(GYRE_TLS_DIR=str(Folders(tmp_path).of("router"))) == (
        "GYRE_TLS_DIR: the certificate is of router, localhost; wanted one of governance"
    )


def test_a_service_does_not_start_without_what_should_lie_in_its_folder(tmp_path: Path) -> None:
    told = cannot_start(GYRE_TLS_DIR=str(tmp_path))
    assert "tls.crt" in told
    assert str(tmp_path) in told


def test_a_service_whose_settings_are_wrong_says_which(tmp_path: Path) -> None:
    assert cannot_start(GYRE_GOVERNANCE_GRPC_PORT="eleven").startswith(
        "GYRE_GOVERNANCE_GRPC_PORT: Input should be a valid integer"
    )


STUCK = """
import asyncio
from services.runtime import service
from services.runtime.settings import ServiceSettings

async def fail(): raise RuntimeError("a disk is full")
async def wait_for_ever(): await asyncio.Event().wait()

async def build(stack):
    stack.push_async_callback(wait_for_ever)
    settings = ServiceSettings(grpc_port=0, metrics_port=0, drain_seconds=0)
    return service.Service("stuck", settings, servicers=[], loops=[fail])

service.STOP_SECONDS = 0.5
service.run(build)
"""


def test_a_service_that_has_failed_and_cannot_stop_ends_all_the_same() -> None:
    ended = subprocess.run([sys.executable, "-c", STUCK], stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert [json.loads(line)["event"] for line in ended.stderr.splitlines() if line.startswith("{")] == [
        "failed",
        "stopping",
        "did not stop in time",
    ]
