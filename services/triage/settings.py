"""What triage reads from the environment (`GYRE_TRIAGE_*`)."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from services.runtime.settings import ModelSettings


class Settings(ModelSettings):
    """Settings of the triage service."""

    model_config = SettingsConfigDict(env_prefix="GYRE_TRIAGE_", frozen=True)

    grpc_port: int = 18085
    data_dir: Path = Field(default=Path(".state/triage"), description="local copy of the tables; rebuilt when lost")
    remembered: int = Field(
        default=20_000, ge=1, description="interactions, and labelled items, remembered in each partition"
    )
    drift_hours: float = Field(
        default=24.0,
        ge=0,
        description="so long after a change in a task's requests or answers more is picked at random",
    )
    drift_exploration: float = Field(
        default=0.5, ge=0, le=1, description="least part of the budget that is picked at random then"
    )
    lease_secret: SecretStr = Field(
        default=SecretStr(""), description="signs leases, the same in every replica; empty: made anew at each start"
    )
    lease_seconds: float = Field(default=900.0, gt=0, description="time that an expert has for an item")
    neighbours: int = Field(
        default=5000, ge=1, description="labelled items of each tenant and task that experts are shown alike ones of"
    )
    neighbour_likeness: float = Field(
        default=0.6, ge=-1, le=1, description="cosine below which a labelled item is not alike enough to be shown"
    )
    console_host: str = ""  # empty: as `host`, or loopback where there is no token
    console_port: int = Field(default=18090, ge=0, le=65535)
    console_token: SecretStr = Field(
        default=SecretStr(""), description="what experts sign in with; empty: anybody, from this machine alone"
    )
