"""What every service reads from the environment. Each service's settings.py adds its own under `GYRE_<SERVICE>_`."""

import ipaddress
import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from services.runtime.errors import InvalidSettings

SECRETS_DIR = "GYRE_SECRETS_DIR"


class EnvironmentSettings(BaseSettings):
    """What all settings are: read once, from variables and from files, and complained about in one sentence.

    `GYRE_SECRETS_DIR` is a folder of files that are named like the variables they stand for, in any case, as secrets
    are mounted in containers. A variable that is set counts before its file.
    """

    model_config = SettingsConfigDict(frozen=True, hide_input_in_errors=True)

    def __init__(self, **given: Any) -> None:
        """Read them.

        Args:
            given: Counts before what is read.

        Raises:
            InvalidSettings: Something is not what was wanted.
        """
        folder = os.environ.get(SECRETS_DIR) or None
        if folder is not None and not Path(folder).is_dir():
            raise InvalidSettings(f"{SECRETS_DIR}: there is no folder {folder}")
        try:
            super().__init__(_secrets_dir=folder, **given)
        except ValidationError as error:
            raise InvalidSettings("; ".join(self._sentences(error))) from None  # what it holds may be secret
        except SettingsError as error:  # JSON that is none
            raise InvalidSettings(str(error)) from None
        except OSError as error:
            raise InvalidSettings(f"{SECRETS_DIR}: {error.filename} cannot be read ({error.strerror})") from error

    @classmethod
    def _sentences(cls, error: ValidationError) -> Iterator[str]:
        for each in error.errors(include_url=False, include_context=False, include_input=False):
            said = each["msg"].removeprefix("Value error, ")
            # Our own sentences name the variable themselves.
            if said.startswith("GYRE_") or not each["loc"]:
                yield said
            else:
                yield f"{_variable(cls.model_config.get('env_prefix', ''), str(each['loc'][0]))}: {said}"


def _variable(prefix: str, field: str) -> str:
    return field if field.startswith("GYRE_") else f"{prefix}{field}".upper()


class TrustSettings(EnvironmentSettings):
    """Of clients of a server that shows a certificate."""

    ca_file: Path | None = Field(
        default=None, description="whose certificates are believed; none: `ca.crt` of `GYRE_TLS_DIR`, else the system's"
    )
    tls_dir: str = Field(default="", validation_alias="GYRE_TLS_DIR")

    @property
    def ca(self) -> Path | None:
        """Certificates of whom to believe; none: of those that the system knows."""
        if self.ca_file is None and self.tls_dir not in ("", "none"):
            return Path(self.tls_dir) / "ca.crt"
        return self.ca_file

    def ssl_context(self) -> ssl.SSLContext:
        """Return how the server is checked.

        Raises:
            ValueError: The certificates cannot be read.
        """
        try:
            return ssl.create_default_context(cafile=self.ca)
        except OSError as error:  # ssl.SSLError is one
            variable = _variable(self.model_config.get("env_prefix", ""), "ca_file")
            raise ValueError(f"{variable}: {self.ca} holds no certificates that can be read ({error})") from error


class KafkaSettings(TrustSettings):
    """Where Kafka is, who asks it, and how topics are created (`GYRE_KAFKA_*`)."""

    model_config = SettingsConfigDict(env_prefix="GYRE_KAFKA_", env_ignore_empty=True)

    bootstrap_servers: str = "127.0.0.1:19092"
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="SASL is SCRAM-SHA-512"
    )
    user: str = Field(default="", description="the service's name; `operator` for who runs `gyre`")
    password: SecretStr = SecretStr("")
    partitions: int = Field(default=4, ge=1, description="of topics keyed by request")
    replication_factor: int = Field(default=1, ge=1)

    @property
    def has_identity(self) -> bool:
        """Whether Kafka is told who asks."""
        return self.security_protocol.startswith("SASL")

    @property
    def is_encrypted(self) -> bool:
        """Whether nobody between can read or change what is said."""
        return self.security_protocol.endswith("SSL")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        given = {"GYRE_KAFKA_USER": self.user, "GYRE_KAFKA_PASSWORD": self.password.get_secret_value()}
        for variable, value in given.items():
            if self.has_identity and not value:
                raise ValueError(f"{variable}: wanted with GYRE_KAFKA_SECURITY_PROTOCOL={self.security_protocol}")
            if value and not self.has_identity:
                raise ValueError(
                    f"GYRE_KAFKA_SECURITY_PROTOCOL: {self.security_protocol} shows no {variable}; wanted SASL_SSL, or "
                    "SASL_PLAINTEXT"
                )
        if self.is_encrypted:
            self.ssl_context()
        return self


class ClickHouseSettings(TrustSettings):
    """Where ClickHouse is, and who asks it (`GYRE_CLICKHOUSE_*`)."""

    model_config = SettingsConfigDict(env_prefix="GYRE_CLICKHOUSE_", env_ignore_empty=True)

    url: str = Field(default="http://127.0.0.1:18123", pattern=r"^https?://[^/\s]+/?$")
    user: str = "audit"
    password: SecretStr = SecretStr("")
    database: str = "gyre"

    @property
    def is_encrypted(self) -> bool:
        """Whether nobody between can read or change what is said."""
        return self.url.startswith("https://")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.is_encrypted:
            self.ssl_context()
        return self


class UpstreamSettings(EnvironmentSettings):
    """Where models are asked (`GYRE_*`); where OpenAI-compatible servers are, the bundle says."""

    model_config = SettingsConfigDict(env_prefix="GYRE_", env_ignore_empty=True)

    triton_url: str = "127.0.0.1:18001"
    upstream_keys: dict[str, SecretStr] = Field(
        default={}, description='of OpenAI-compatible servers, by the bundle\'s name for each: {"name": "key"}'
    )


class TlsSettings(EnvironmentSettings):
    """Whether networks are crossed by TLS, and where this process's certificate is (`GYRE_TLS_*`)."""

    model_config = SettingsConfigDict(env_prefix="GYRE_TLS_")

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


class TelemetrySettings(EnvironmentSettings):
    """Logs, metrics and traces (`GYRE_TELEMETRY_*`)."""

    model_config = SettingsConfigDict(env_prefix="GYRE_TELEMETRY_")

    log_level: str = "INFO"
    log_format: str = Field(default="json", pattern="^(json|console)$")
    otlp_endpoint: str = Field(default="", description="OpenTelemetry collector, host:port; empty: no traces")


class ServiceSettings(EnvironmentSettings):
    """What the settings of every service begin with. Subclasses set `env_prefix` to `GYRE_<SERVICE>_`."""

    host: str = "127.0.0.1"
    grpc_port: int
    metrics_port: int = Field(default=0, description="0: no metrics endpoint")
    drain_seconds: float = Field(default=10.0, ge=0, description="time that running calls get at shutdown")
    connection_seconds: float = Field(
        default=30.0, gt=0, description="age at which a gRPC client is told to connect anew; a tenth more or less"
    )

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
