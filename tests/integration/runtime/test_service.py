"""The life of a service process."""

import os
import signal
import subprocess
import sys

import pytest

from embedded.ports import free_ports


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
