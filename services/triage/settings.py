"""What triage reads from the environment (`GYRE_TRIAGE_*`)."""

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from services.runtime.settings import ModelSettings


class Settings(ModelSettings):
    """Settings of the triage service."""

    model_config = SettingsConfigDict(env_prefix="GYRE_TRIAGE_", env_ignore_empty=True)

    grpc_port: int = 18085
    data_dir: Path = Field(default=Path(".state/triage"), description="local copy of the tables; rebuilt when lost")
    remembered: int = Field(default=20_000, ge=1, description="interactions remembered in each partition")
    drift_hours: float = Field(
        default=24.0,
        ge=0,
        description="so long after a change in a task's requests or answers more is picked at random",
    )
    drift_exploration: float = Field(
        default=0.5, ge=0, le=1, description="least part of the budget that is picked at random then"
    )
    neighbours: int = Field(
        default=5000, ge=1, description="labelled items of each tenant and task that experts are shown alike ones of"
    )
    neighbour_likeness: float = Field(
        default=0.6, ge=-1, le=1, description="cosine below which a labelled item is not alike enough to be shown"
    )
    lease_secret: SecretStr = Field(
        default=SecretStr(""), description="signs leases, the same in every replica; empty: made anew at each start"
    )
    lease_seconds: float = Field(default=900.0, gt=0, description="time that an expert has for an item")
    console_host: str = ""  # empty: as `host`, or loopback where there are no accounts
    console_port: int = Field(default=18090, ge=0, le=65535)
    console_url: str = Field(
        default="",
        pattern=r"^(https?://[^/\s]+)?$",
        description="where browsers reach the console, if not where it listens; of https, cookies are secure",
    )
    console_proxies: int = Field(
        default=0, ge=0, description="proxies before the console, of which each adds an address to X-Forwarded-For"
    )
    accounts: Path | None = Field(
        default=None, description="file of accounts; none: one local admin, from this machine alone"
    )
    session_secret: SecretStr = Field(
        default=SecretStr(""), description="signs sessions, the same in every replica; empty: made anew at each start"
    )
    session_idle_minutes: float = Field(default=60.0, gt=0, description="a session ends that is not used for so long")
    session_hours: float = Field(default=12.0, gt=0, description="a session ends after that in any case")
    session_requests_per_minute: int = Field(default=600, ge=1, description="of one session")
    oidc_issuer: str = Field(
        default="", pattern=r"^(https?://\S+)?$", description="identity provider; empty: passwords alone"
    )
    oidc_client_id: str = ""
    oidc_client_secret: SecretStr = SecretStr("")

    @model_validator(mode="after")
    def _identity_provider_can_send_people_back(self) -> Self:
        if self.oidc_issuer:
            for name in ("oidc_client_id", "console_url", "accounts"):
                if not getattr(self, name):
                    raise ValueError(f"GYRE_TRIAGE_{name.upper()}: wanted with GYRE_TRIAGE_OIDC_ISSUER")
        return self
