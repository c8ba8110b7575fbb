"""What an operator decides about the embedded stack, and every port that it listens on."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from embedded.errors import SettingsError

HOST = "127.0.0.1"
SERVICES = ("governance", "context", "audit", "triage", "trainer", "serving", "router")
# A Unix socket's path may have 107 bytes, and supervisor binds a name with its process id behind it first.
_LONGEST_STATE_DIR_BYTES = 107 - len("/run/supervisor.sock.") - 7


@dataclass(frozen=True)
class Port:
    """A port that a part listens on.

    Attributes:
        part: The part that listens.
        use: What for.
        default: Its number, unless the variable says otherwise.
    """

    part: str
    use: str
    default: int


PORTS: dict[str, Port] = {
    "GYRE_EMBEDDED_KAFKA_PORT": Port("kafka", "clients", 19092),
    "GYRE_EMBEDDED_KAFKA_CONTROLLER_PORT": Port("kafka", "its controller", 19093),
    "GYRE_EMBEDDED_CLICKHOUSE_PORT": Port("clickhouse", "HTTP", 18123),
    "GYRE_EMBEDDED_TRITON_HTTP_PORT": Port("triton", "HTTP", 18000),
    "GYRE_EMBEDDED_TRITON_GRPC_PORT": Port("triton", "gRPC", 18001),
    "GYRE_EMBEDDED_TRITON_METRICS_PORT": Port("triton", "metrics", 18002),
    "GYRE_ROUTER_HTTP_PORT": Port("router", "OpenAI-compatible HTTP", 18080),
    "GYRE_ROUTER_GRPC_PORT": Port("router", "gRPC", 18081),
    "GYRE_ROUTER_METRICS_PORT": Port("router", "metrics", 18181),
    "GYRE_GOVERNANCE_GRPC_PORT": Port("governance", "gRPC", 18082),
    "GYRE_GOVERNANCE_EXCHANGE_PORT": Port("governance", "other services", 18092),
    "GYRE_GOVERNANCE_METRICS_PORT": Port("governance", "metrics", 18182),
    "GYRE_CONTEXT_GRPC_PORT": Port("context", "gRPC", 18083),
    "GYRE_CONTEXT_EXCHANGE_PORT": Port("context", "other services", 18093),
    "GYRE_CONTEXT_METRICS_PORT": Port("context", "metrics", 18183),
    "GYRE_AUDIT_GRPC_PORT": Port("audit", "gRPC", 18084),
    "GYRE_AUDIT_METRICS_PORT": Port("audit", "metrics", 18184),
    "GYRE_TRIAGE_GRPC_PORT": Port("triage", "gRPC", 18085),
    "GYRE_TRIAGE_METRICS_PORT": Port("triage", "metrics", 18185),
    "GYRE_TRIAGE_CONSOLE_PORT": Port("triage", "the experts' console", 18090),
    "GYRE_TRAINER_GRPC_PORT": Port("trainer", "gRPC", 18086),
    "GYRE_TRAINER_METRICS_PORT": Port("trainer", "metrics", 18186),
    "GYRE_SERVING_GRPC_PORT": Port("serving", "gRPC", 18087),
    "GYRE_SERVING_METRICS_PORT": Port("serving", "metrics", 18187),
}
"""By the variable that changes each."""


@dataclass(frozen=True)
class Settings:
    """Where the embedded stack keeps its state and where it listens.

    Attributes:
        state_dir: Holds everything that the stack writes (`GYRE_STATE_DIR`); made absolute.
        ports: Numbers by the variable that changes each; those left out have their default.
        cache_dir: Holds what is downloaded or made once per user (`GYRE_EMBEDDED_CACHE_DIR`).
        triton_python: The interpreter of Triton's own environment (`GYRE_EMBEDDED_TRITON_PYTHON`).

    Raises:
        SettingsError: Something is not what was wanted.
    """

    state_dir: Path
    ports: Mapping[str, int] = field(default_factory=dict)
    cache_dir: Path = field(default_factory=lambda: _cache_dir(os.environ))
    triton_python: Path = field(default_factory=lambda: _triton_python(os.environ))

    def __post_init__(self) -> None:
        if unknown := self.ports.keys() - PORTS.keys():
            raise SettingsError(f"{min(unknown)} is no port of the embedded stack; wanted one of {', '.join(PORTS)}.")
        complete = {variable: self.ports.get(variable, port.default) for variable, port in PORTS.items()}
        object.__setattr__(self, "ports", complete)
        object.__setattr__(self, "state_dir", self.state_dir.expanduser().absolute())
        seen: dict[int, str] = {}
        for variable, number in complete.items():
            if not 1 <= number <= 65535:
                raise SettingsError(f"{variable} is {number}; wanted a port between 1 and 65535.")
            if number in seen:
                raise SettingsError(f"{seen[number]} and {variable} are both {number}; give one of them another port.")
            seen[number] = variable
        # These would be syntax to supervisor's configuration or to the ClickHouse engine.
        if any(character in str(self.state_dir) for character in "\"'\\%?&=;\n"):
            raise SettingsError(
                f"GYRE_STATE_DIR is {str(self.state_dir)!r}; wanted a path without quotes, line breaks "
                "and the characters \\ % ? & = ;"
            )
        if len(os.fsencode(self.state_dir)) > _LONGEST_STATE_DIR_BYTES:
            raise SettingsError(
                f"GYRE_STATE_DIR is {self.state_dir}; wanted a path of at most {_LONGEST_STATE_DIR_BYTES} bytes, "
                "because a Unix socket lies in it."
            )

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Return the settings that the environment asks for.

        Raises:
            SettingsError: A variable is not what was wanted.
        """
        return cls(
            state_dir=Path(environ.get("GYRE_STATE_DIR") or ".state"),
            ports={variable: _number(variable, environ[variable]) for variable in PORTS if environ.get(variable)},
            cache_dir=_cache_dir(environ),
            triton_python=_triton_python(environ),
        )

    def to_environment(self) -> dict[str, str]:
        """Return the variables that `from_environment` reads the same settings from."""
        return {
            "GYRE_STATE_DIR": str(self.state_dir),
            "GYRE_EMBEDDED_CACHE_DIR": str(self.cache_dir),
            "GYRE_EMBEDDED_TRITON_PYTHON": str(self.triton_python),
            **{variable: str(number) for variable, number in self.ports.items()},
        }

    def port(self, variable: str) -> int:
        """Return the number of a port, by the variable that changes it."""
        return self.ports[variable]

    def address(self, variable: str) -> str:
        """Return `host:port`, by the variable that changes the port."""
        return f"{HOST}:{self.ports[variable]}"

    @property
    def run_dir(self) -> Path:
        """Sockets, generated configuration and secrets."""
        return self.state_dir / "run"

    @property
    def accounts_file(self) -> Path:
        """Who may sign in to the console."""
        return self.run_dir / "secrets" / "accounts.yaml"

    @property
    def logs_dir(self) -> Path:
        """One log per part."""
        return self.state_dir / "logs"

    @property
    def models_dir(self) -> Path:
        """The models that come in packages: made once per user, like what is downloaded, and shared by every state."""
        return self.cache_dir / "models"

    @property
    def artifacts_dir(self) -> Path:
        """What training makes."""
        return self.state_dir / "artifacts"

    @property
    def triage_dir(self) -> Path:
        """The local copy of triage's tables."""
        return self.state_dir / "triage"

    @property
    def triton_repository(self) -> Path:
        """The models that Triton may load."""
        return self.state_dir / "triton" / "models"


def _number(variable: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise SettingsError(f"{variable} is {value!r}; wanted a port between 1 and 65535.") from None


def _cache_dir(environ: Mapping[str, str]) -> Path:
    if chosen := environ.get("GYRE_EMBEDDED_CACHE_DIR"):
        return Path(chosen).expanduser().absolute()
    return Path(environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "gyre"


def _triton_python(environ: Mapping[str, str]) -> Path:
    # Not resolved: the link's own place says which environment it is.
    chosen = environ.get("GYRE_EMBEDDED_TRITON_PYTHON")
    return Path(chosen).expanduser().absolute() if chosen else Path(sys.prefix).parent / ".venv-triton/bin/python"
