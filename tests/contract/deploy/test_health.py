"""A container asks its own service whether it serves, as that wants to be asked."""

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "deploy" / "containers" / "gyre-health"


@pytest.fixture
def probe(tmp_path: Path) -> Path:
    """A probe that prints how it is called, and fails as the real one does where a service is not well."""
    path = tmp_path / "grpc-health-probe"
    path.write_text('#!/bin/sh\necho "$@"\nexit 4\n')
    path.chmod(0o755)
    return path


def ask(probe: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{probe.parent}:/usr/bin:/bin"
    return subprocess.run(
        [SCRIPT], env={"PATH": path, **environment}, capture_output=True, text=True, check=False, timeout=10
    )


@pytest.mark.parametrize("tls", [{}, {"GYRE_TLS_DIR": ""}, {"GYRE_TLS_DIR": "none"}])
def test_without_tls_it_asks_in_the_clear_on_the_services_own_port(probe: Path, tls: dict[str, str]) -> None:
    result = ask(probe, SERVICE="router", GYRE_ROUTER_GRPC_PORT="18081", **tls)
    assert result.stdout.split()[:2] == ["-addr", "127.0.0.1:18081"]
    assert "-tls" not in result.stdout
    assert result.returncode == 4


def test_with_tls_it_shows_the_services_certificate_and_wants_the_same(probe: Path) -> None:
    result = ask(probe, SERVICE="audit", GYRE_AUDIT_GRPC_PORT="18084", GYRE_TLS_DIR="/tls")
    assert "-tls -tls-server-name audit -tls-ca-cert /tls/ca.crt " in result.stdout
    assert "-tls-client-cert /tls/tls.crt -tls-client-key /tls/tls.key" in result.stdout


def test_without_a_port_it_fails(probe: Path) -> None:
    assert ask(probe, SERVICE="audit").returncode == 2
