"""What every service reads from the environment. Each service's settings.py adds its own under `GYRE_<SERVICE>_`."""

import ipaddress
from pathlib import Path

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class KafkaSettings(BaseSettings):
    """Where Kafka is and how topics are created (`GYRE_KAFKA_*`)."""

    model_config = SettingsConfigDict(env_prefix="GYRE_KAFKA_", frozen=True)

    bootstrap_servers: str = "127.0.0.1:19092"
    partitions: int = Field(default=4, ge=1, description="of topics keyed by request")
    replication_factor: int = Field(default=1, ge=1)


class ClickHouseSettings(BaseSettings):
    """Where ClickHouse is (`GYRE_CLICKHOUSE_*`)."""

    model_config = SettingsConfigDict(env_prefix="GYRE_CLICKHOUSE_", frozen=True)

    url: str = "http://127.0.0.1:18123"
    user: str = "gyre"
    password: SecretStr = SecretStr("")
    database: str = "gyre"


class UpstreamSettings(BaseSettings):
    """Where models are asked (`GYRE_*`); where OpenAI-compatible servers are, the bundle says."""

    model_config = SettingsConfigDict(env_prefix="GYRE_", frozen=True, env_ignore_empty=True)

    triton_url: str = "127.0.0.1:18001"
    upstream_keys: dict[str, SecretStr] = Field(
        default={}, description='of OpenAI-compatible servers, by the bundle\'s name for each: {"name": "key"}'
    )


class TlsSettings(BaseSettings):
    """Whether networks are crossed by TLS, and where this process's certificate is (`GYRE_TLS_*`)."""

    model_config = SettingsConfigDict(env_prefix="GYRE_TLS_", frozen=True)

    dir: str = Field(
        default="",
        description="folder with tls.crt, tls.key and ca.crt; empty: plain, on loopback alone; none: plain, and meant",
    )

    @property
    def folder(self) -> Path | None:
        """The folder; None where there is no TLS."""
        return Path(self.dir) if self.dir not in ("", "none") else None

    def allows(self, host: str) -> bool:
        """Say whether one may listen on a host: without TLS only where nobody else comes, unless that is meant."""
        return bool(self.dir) or is_loopback(host)


def is_loopback(host: str) -> bool:
    """Say whether a host is one that only its own machine reaches."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class TelemetrySettings(BaseSettings):
    """Logs, metrics and traces (`GYRE_TELEMETRY_*`)."""

    model_config = SettingsConfigDict(env_prefix="GYRE_TELEMETRY_", frozen=True)

    log_level: str = "INFO"
    log_format: str = Field(default="json", pattern="^(json|console)$")
    otlp_endpoint: str = Field(default="", description="OpenTelemetry collector, host:port; empty: no traces")


class ServiceSettings(BaseSettings):
    """What the settings of every service begin with. Subclasses set `env_prefix` to `GYRE_<SERVICE>_`."""

    model_config = SettingsConfigDict(frozen=True)

    host: str = "127.0.0.1"
    grpc_port: int
    metrics_port: int = Field(default=0, description="0: no metrics endpoint")
    drain_seconds: float = Field(default=10.0, ge=0, description="time that running calls get at shutdown")

    @field_validator("host", "console_host", check_fields=False)
    @classmethod
    def _is_not_in_the_clear(cls, host: str, info: ValidationInfo) -> str:
        # An empty host is every address there is; an empty console_host is as `host`.
        if (host or info.field_name == "host") and not TlsSettings().allows(host):
            variable = f"{cls.model_config.get('env_prefix', '')}{info.field_name}".upper()
            raise ValueError(
                f"{variable} is {host!r}, where others come, and there is no TLS: set GYRE_TLS_DIR to a folder with "
                "tls.crt, tls.key and ca.crt (gyre certificates makes one), or to none where plain is meant"
            )
        return host


class ModelSettings(ServiceSettings):
    """Of services that read models from a folder."""

    models_dir: Path = Field(
        default=Path("~/.cache/gyre/models").expanduser(),
        validation_alias="GYRE_MODELS_DIR",
        description="what `python -m embedded.models` made",
    )
