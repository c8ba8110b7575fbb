"""What the parts of the embedded stack are told by environment variables, and the secrets among it."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from embedded.clickhouse.users import READ_ONLY_BY_USER, create_users_file
from embedded.settings import HOST, PORTS, SERVICES, Settings
from schemas.ledger.notes import SigningKey

# The one service that each secret is for.
_SECRETS = {
    "GYRE_CLICKHOUSE_PASSWORD": "audit",
    "GYRE_AUDIT_SIGNING_KEYS": "audit",
    "GYRE_TRIAGE_LEASE_SECRET": "triage",
}


def service_environment(settings: Settings) -> dict[str, str]:
    """Return the variables that services are started with, the same names as in any other deployment.

    A service gets only the secrets that are its own (`part_environment`); they are made where they do not exist yet.
    """
    return {
        "GYRE_KAFKA_BOOTSTRAP_SERVERS": settings.address("GYRE_EMBEDDED_KAFKA_PORT"),
        "GYRE_CLICKHOUSE_URL": f"http://{settings.address('GYRE_EMBEDDED_CLICKHOUSE_PORT')}",
        "GYRE_CLICKHOUSE_USER": "gyre",
        "GYRE_CLICKHOUSE_PASSWORD": clickhouse_password(settings, "gyre"),
        "GYRE_TRITON_URL": settings.address("GYRE_EMBEDDED_TRITON_GRPC_PORT"),
        "GYRE_TRITON_REPOSITORY": str(settings.triton_repository),
        "GYRE_MODELS_DIR": str(settings.models_dir),
        "GYRE_ARTIFACTS_DIR": str(settings.artifacts_dir),
        "GYRE_TRIAGE_DATA_DIR": str(settings.triage_dir),
        "GYRE_CONTEXT_SNAPSHOT_DIR": str(settings.state_dir / "context"),
        "GYRE_TRIAGE_LEASE_SECRET": _secret(settings, "triage-lease"),
        "GYRE_AUDIT_SIGNING_KEYS": audit_signing_keys(settings),
        "GYRE_AUDIT_CHECKPOINTS_FILE": str(settings.state_dir / "audit" / "checkpoints"),
        **{f"GYRE_{name.upper()}_HOST": HOST for name in SERVICES},
        **{f"GYRE_{name.upper()}_TARGET": settings.address(_asked_port(name)) for name in SERVICES},
        **{variable: str(settings.port(variable)) for variable, port in PORTS.items() if port.part in SERVICES},
    }


def _asked_port(name: str) -> str:
    """Return the variable of the port on which a service is asked by others."""
    exchange_port = f"GYRE_{name.upper()}_EXCHANGE_PORT"
    return exchange_port if exchange_port in PORTS else f"GYRE_{name.upper()}_GRPC_PORT"


def part_environment(settings: Settings, name: str) -> dict[str, str]:
    """Return the variables that a part is started with, beside those that `gyre up` itself was given."""
    if name == "clickhouse":
        return {
            "GYRE_EMBEDDED_CLICKHOUSE_HOST": HOST,
            "GYRE_EMBEDDED_CLICKHOUSE_PORT": str(settings.port("GYRE_EMBEDDED_CLICKHOUSE_PORT")),
            "GYRE_EMBEDDED_CLICKHOUSE_DATA_DIR": str(settings.state_dir / "clickhouse"),
            "GYRE_EMBEDDED_CLICKHOUSE_USERS_FILE": str(clickhouse_users_file(settings)),
        }
    if name not in SERVICES:  # Kafka and Triton read the stack's own settings
        return settings.to_environment()
    # Several processes with a thread per core each would get in each other's way; only training is worth every core.
    threads = {} if name == "trainer" else {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    offline = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    others = {variable for variable, owner in _SECRETS.items() if owner != name}
    told = {variable: value for variable, value in service_environment(settings).items() if variable not in others}
    # The console shows numbers of the record, and has no business to change it.
    reader = {
        "GYRE_CLICKHOUSE_USER": "analyst",
        "GYRE_CLICKHOUSE_PASSWORD": clickhouse_password(settings, "analyst"),
    }
    return {**told, **threads, **offline, **(reader if name == "triage" else {})}


def clickhouse_password(settings: Settings, user: str) -> str:
    """Return the password of the ClickHouse user `gyre` or `analyst`, made where there is none yet."""
    return _secret(settings, f"clickhouse-{user}")


def write_clickhouse_users(settings: Settings) -> None:
    """Write the file that the ClickHouse front knows its users from."""
    path = clickhouse_users_file(settings)
    path.unlink(missing_ok=True)
    create_users_file(path, {user: clickhouse_password(settings, user) for user in READ_ONLY_BY_USER})


def clickhouse_users_file(settings: Settings) -> Path:
    """Return where `write_clickhouse_users` writes."""
    return settings.run_dir / "clickhouse-users.json"


def audit_signing_keys(settings: Settings) -> str:
    """Return what checkpoints of the record are signed with, made where there is nothing yet."""
    return _secret(settings, "audit-signing-keys", lambda: SigningKey.generate("gyre-audit").secret())


def _secret(settings: Settings, name: str, make: Callable[[], str] = secrets.token_urlsafe) -> str:
    path = settings.run_dir / "secrets" / name
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(make())
    return path.read_text().strip()
