"""What is looked at: this machine's embedded stack, or whatever the environment variables name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from embedded.environment import made_secret
from embedded.settings import PORTS, SERVICES, Settings
from embedded.stack import Stack
from services.runtime.clock import Clock
from services.runtime.errors import Fatal
from services.runtime.settings import ClickHouseSettings, KafkaSettings, TlsSettings, UpstreamSettings
from services.runtime.tls import Tls, tls_of

if TYPE_CHECKING:
    from services.audit.settings import Settings as AuditSettings

# Either names an installation that is not this machine's stack.
NAMING = ("GYRE_KAFKA_BOOTSTRAP_SERVERS", "GYRE_CLICKHOUSE_URL")
TLS_FILES = ("tls.crt", "tls.key", "ca.crt")


@dataclass(frozen=True)
class Installation:
    """Where the parts of an installation are, and what they were told.

    Attributes:
        kafka: Where Kafka is.
        clickhouse: Where ClickHouse is, and who asks it.
        upstreams: Where Triton is (empty: nowhere), and the keys of other servers.
        audit: What the record is signed with.
        services: `host:port` of the gRPC of each service that is known of, by its name.
        models_dir: The models' folder; None where it is not on this machine.
        accounts: The file of those who judge answers; None where there is none, or it is not on this machine.
        tls_dir: The folder of certificates (`GYRE_TLS_DIR`), where there is one.
        tls: How services are spoken to; None: in the clear, or by certificates of no use, which a check tells.
        secret_files: Files that nobody else is to read.
        folders: Folders that are written to, with what fills them.
        stack: The embedded stack, where it is that.
        bundle_dir: The operator's bundle, to be compared with the published one.
        sample_seconds: Between two looks at what moves.
        clock: This machine's.
    """

    kafka: KafkaSettings
    clickhouse: ClickHouseSettings
    upstreams: UpstreamSettings
    audit: AuditSettings
    services: Mapping[str, str] = field(default_factory=dict)
    models_dir: Path | None = None
    accounts: Path | None = None
    tls_dir: Path | None = None
    tls: Tls | None = None
    secret_files: tuple[Path, ...] = ()
    folders: Mapping[Path, str] = field(default_factory=dict)
    stack: Stack | None = None
    bundle_dir: Path | None = None
    sample_seconds: float = 3.0
    clock: Clock = field(default_factory=Clock)

    @property
    def is_embedded(self) -> bool:
        """Whether it is this machine's stack."""
        return self.stack is not None

    @property
    def restart(self) -> str:
        """How a person has a service start again, to be followed by nothing."""
        return "gyre down && gyre up" if self.is_embedded else "docker compose restart, or kubectl rollout restart"


def installation_of(state_dir: Path, bundle_dir: Path | None = None) -> Installation:
    """Return the installation that the environment variables name, or else the stack in a state folder.

    Nothing is written: a secret that is missing stays missing.
    """
    if any(os.environ.get(name) for name in NAMING):
        return _named(bundle_dir)
    settings = Settings.from_environment({**os.environ, "GYRE_STATE_DIR": str(state_dir)})
    return embedded_installation(Stack.running(settings), bundle_dir)


def embedded_installation(stack: Stack, bundle_dir: Path | None = None) -> Installation:
    """Return the installation that an embedded stack is."""
    from services.audit.settings import Settings as AuditSettings

    settings = stack.settings
    secrets = settings.run_dir / "secrets"
    return Installation(
        kafka=KafkaSettings(bootstrap_servers=settings.address("GYRE_EMBEDDED_KAFKA_PORT")),
        clickhouse=ClickHouseSettings(
            url=f"http://{settings.address('GYRE_EMBEDDED_CLICKHOUSE_PORT')}",
            user="audit",
            password=SecretStr(made_secret(settings, "clickhouse-audit")),
        ),
        upstreams=UpstreamSettings(triton_url=settings.address("GYRE_EMBEDDED_TRITON_GRPC_PORT")),
        audit=AuditSettings(signing_keys=SecretStr(made_secret(settings, "audit-signing-keys"))),
        services={name: settings.address(f"GYRE_{name.upper()}_GRPC_PORT") for name in SERVICES},
        models_dir=settings.models_dir,
        accounts=settings.accounts_file,
        tls_dir=_folder("GYRE_TLS_DIR"),
        secret_files=(
            *(sorted(secrets.iterdir()) if secrets.is_dir() else ()),
            settings.run_dir / "supervisor.conf",
            settings.run_dir / "clickhouse-users.json",
        ),
        folders={settings.state_dir: "records, models and logs", settings.cache_dir: "models and Kafka's jars"},
        stack=stack,
        bundle_dir=bundle_dir,
    )


def _named(bundle_dir: Path | None) -> Installation:
    from services.audit.settings import Settings as AuditSettings

    secrets, models, accounts = (
        _folder(name) for name in ("GYRE_SECRETS_DIR", "GYRE_MODELS_DIR", "GYRE_TRIAGE_ACCOUNTS")
    )
    artifacts = _folder("GYRE_ARTIFACTS_DIR")
    return Installation(
        kafka=KafkaSettings(),
        clickhouse=ClickHouseSettings(),
        upstreams=UpstreamSettings(triton_url=os.environ.get("GYRE_TRITON_URL", "")),
        audit=AuditSettings(),
        services={name: target for name in SERVICES if (target := _grpc_target(name))},
        models_dir=models,
        accounts=accounts,
        tls_dir=_folder("GYRE_TLS_DIR"),
        tls=_tls(),
        secret_files=tuple(path for path in sorted(secrets.iterdir()) if path.is_file())
        if secrets is not None and secrets.is_dir()
        else (),
        folders={
            path: what for path, what in ((artifacts, "datasets and adapters"), (models, "models")) if path is not None
        },
        bundle_dir=bundle_dir,
    )


def _folder(variable: str) -> Path | None:
    value = os.environ.get(variable, "")
    return Path(value).expanduser() if value and value != "none" else None


def _tls() -> Tls | None:
    try:
        return tls_of(TlsSettings())
    except Fatal:
        return None


def _grpc_target(name: str) -> str:
    """Return where a service answers gRPC, if the environment names its host; others may ask it on another port."""
    host = os.environ.get(f"GYRE_{name.upper()}_TARGET", "").rpartition(":")[0]
    variable = f"GYRE_{name.upper()}_GRPC_PORT"
    return f"{host}:{os.environ.get(variable) or PORTS[variable].default}" if host else ""
