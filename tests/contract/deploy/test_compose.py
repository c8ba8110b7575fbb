"""docker-compose.yml is what the Docker client accepts and what the services read."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
SERVICES = ["router", "governance", "context", "audit", "triage", "trainer", "serving"]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
FILLED = {
    "GYRE_CLICKHOUSE_PASSWORD": "x",
    "GYRE_CLICKHOUSE_ANALYST_PASSWORD": "x",
    "GYRE_TRIAGE_LEASE_SECRET": "x",
    "GYRE_TRIAGE_SESSION_SECRET": "x",
    "GYRE_TRITON_IMAGE": "tritonserver",
}


def _config(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    client = shutil.which("docker")
    if client is None or subprocess.run([client, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("there is no Docker client with compose on this machine")
    return subprocess.run(
        [client, "compose", "-f", "docker-compose.yml", "config", "--quiet"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_docker_client_accepts_it() -> None:
    result = _config(FILLED)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("secret", sorted(FILLED))
def test_it_refuses_to_start_without_a_secret(secret: str) -> None:
    result = _config({name: value for name, value in FILLED.items() if name != secret})
    assert result.returncode != 0
    assert secret in result.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_has_an_image_of_its_own_extra(service: str) -> None:
    assert COMPOSE["services"][service]["build"]["args"] == {"SERVICE": service}
    pins = (ROOT / "requirements" / f"{service}.txt").read_text()
    assert ("\ntorch==" in pins) == (service == "trainer")


@pytest.mark.parametrize("service", SERVICES)
def test_every_variable_is_one_that_a_service_reads(service: str) -> None:
    code = "".join(path.read_text() for path in (ROOT / "services").rglob("*.py"))
    for variable in COMPOSE["services"][service]["environment"]:
        prefix, name = next(
            (prefix, variable.removeprefix(prefix))
            for prefix in (f"GYRE_{service.upper()}_", "GYRE_KAFKA_", "GYRE_CLICKHOUSE_", "GYRE_TELEMETRY_", "GYRE_")
            if variable.startswith(prefix)
        )
        assert variable in code or (f'"{prefix}"' in code and f"{name.lower()}:" in code), variable


def test_every_file_that_is_mounted_is_there() -> None:
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            # The models are made before the first start.
            if source.startswith("./") and source != "./models":
                assert (ROOT / source).exists(), volume
