"""What the parts of the embedded stack are told by environment variables, and the secrets among it."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path

from embedded.clickhouse.users import READ_ONLY_BY_USER, create_users_file
from embedded.settings import HOST, PORTS, SERVICES, Settings
from schemas.ledger.notes import SigningKey
from services.triage.accounts import changed, hash_password

# The demo's stand-in for a person; its account is made beside that of whoever started the stack.
REPLAYED_EXPERT = "replayed-expert"
# The one service that each secret is for.
_SECRETS = {
    "GYRE_CLICKHOUSE_PASSWORD": "audit",
    "GYRE_AUDIT_SIGNING_KEYS": "audit",
    "GYRE_TRIAGE_LEASE_SECRET": "triage",
    "GYRE_TRIAGE_SESSION_SECRET": "triage",
    "GYRE_TRIAGE_ACCOUNTS": "triage",
}


def service_environment(settings: Settings) -> dict[str, str]:
    """Return the variables that services are started with, the same names as in any other deployment.

    A service gets only the secrets that are its own (`part_environment`); they are made where they do not exist yet.
    """
    return {
        "GYRE_KAFKA_BOOTSTRAP_SERVERS": settings.address("GYRE_EMBEDDED_KAFKA_PORT"),
        "GYRE_CLICKHOUSE_URL": f"http://{settings.address('GYRE_EMBEDDED_CLICKHOUSE_PORT')}",
        "GYRE_CLICKHOUSE_USER": "audit",
        "GYRE_CLICKHOUSE_PASSWORD": clickhouse_password(settings, "audit"),
        "GYRE_TRITON_URL": settings.address("GYRE_EMBEDDED_TRITON_GRPC_PORT"),
        "GYRE_TRITON_REPOSITORY": str(settings.triton_repository),
        "GYRE_MODELS_DIR": str(settings.models_dir),
        "GYRE_ARTIFACTS_DIR": str(settings.artifacts_dir),
        "GYRE_TRIAGE_DATA_DIR": str(settings.triage_dir),
        "GYRE_CONTEXT_SNAPSHOT_DIR": str(settings.state_dir / "context"),
        "GYRE_TRIAGE_LEASE_SECRET": _secret(settings, "triage-lease"),
        "GYRE_TRIAGE_SESSION_SECRET": _secret(settings, "triage-session"),
        "GYRE_TRIAGE_ACCOUNTS": str(_accounts(settings)),
        "GYRE_AUDIT_SIGNING_KEYS": audit_signing_keys(settings),
        "GYRE_AUDIT_CHECKPOINTS_FILE": str(settings.state_dir / "audit" / "checkpoints"),
        # An operator's certificate is for asking services elsewhere; here all stays on this machine.
        "GYRE_TLS_DIR": "",
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
        "GYRE_CLICKHOUSE_USER": "triage",
        "GYRE_CLICKHOUSE_PASSWORD": clickhouse_password(settings, "triage"),
    }
    return {**told, **threads, **offline, **(reader if name == "triage" else {})}


def clickhouse_password(settings: Settings, user: str) -> str:
    """Return the password of a ClickHouse user (`READ_ONLY_BY_USER`), made where there is none yet."""
    return _secret(settings, f"clickhouse-{user}")


def write_clickhouse_users(settings: Settings) -> None:
    """Write the file that the ClickHouse front knows its users from."""
    path = clickhouse_users_file(settings)
    path.unlink(missing_ok=True)
    create_users_file(path, {user: clickhouse_password(settings, user) for user in READ_ONLY_BY_USER})


def clickhouse_users_file(settings: Settings) -> Path:
    """Return where `write_clickhouse_users` writes."""
    return settings.run_dir / "clickhouse-users.json"


def person() -> str:
    """Return the name of the account of whoever started the stack: their own on this machine, where it can be one."""
    with contextlib.suppress(OSError, KeyError):  # a container may run as somebody without a name
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name := getpass.getuser()):
            return name
    return "admin"


def console_password_file(settings: Settings) -> Path:
    """Return where that person's first password for the console lies, made where there is none yet."""
    _secret(settings, "console-password")
    return _secret_file(settings, "console-password")


def replayed_expert_token(settings: Settings) -> str:
    """Return what the demo's replayed expert shows to triage, made where there is none yet."""
    return _secret(settings, "replayed-expert-token")


def _accounts(settings: Settings) -> Path:
    """Return the file of who may judge answers, made where there is none yet; it may be changed by `gyre experts`."""
    path = settings.accounts_file
    if not path.exists():
        everything = {"clearance": "restricted", "tenants": "all"}
        token = hashlib.sha256(replayed_expert_token(settings).encode()).hexdigest()
        password = console_password_file(settings).read_text().strip()
        with changed(path) as content:
            content[person()] = {"role": "admin", **everything, "password": hash_password(password)}
            content[REPLAYED_EXPERT] = {"role": "expert", **everything, "token_sha256": token}
    return path


def audit_signing_keys(settings: Settings) -> str:
    """Return what checkpoints of the record are signed with, made where there is nothing yet."""
    return _secret(settings, "audit-signing-keys", lambda: SigningKey.generate("gyre-audit").secret())


def made_secret(settings: Settings, name: str) -> str:
    """Return a secret of the stack; empty where it was not made yet, or cannot be read."""
    try:
        return _secret_file(settings, name).read_text().strip()
    except OSError:
        return ""


def _secret(settings: Settings, name: str, make: Callable[[], str] = secrets.token_urlsafe) -> str:
    path = _secret_file(settings, name)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(make())
    return path.read_text().strip()


def _secret_file(settings: Settings, name: str) -> Path:
    return settings.run_dir / "secrets" / name
