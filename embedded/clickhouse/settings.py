from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What an operator decides, from GYRE_EMBEDDED_CLICKHOUSE_* in the environment."""

    model_config = SettingsConfigDict(env_prefix="GYRE_EMBEDDED_CLICKHOUSE_", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=18123, ge=0, le=65535)
    """0 lets the system choose; the address is logged."""
    data_dir: Path
    users_file: Path
    connections: int = Field(default=16, ge=1, le=256)
    """How many queries run at once; more wait their turn."""
    read_only_queries: int = Field(default=5000, ge=1)
    """How many queries a read-only user may begin in an hour."""
    read_only_seconds: float = Field(default=3600.0, gt=0)
    """How many seconds they may take in an hour, all together."""
    shutdown_grace_seconds: float = Field(default=20.0, ge=0)
    """How long queries in flight may finish after SIGTERM before they are cancelled."""

    @field_validator("data_dir")
    @classmethod
    def _without_connection_string_syntax(cls, value: Path) -> Path:
        if any(character in str(value) for character in "?&=%*{}"):
            raise ValueError("must not contain ?, &, =, %, *, { or }, which the engine reads as options or patterns")
        return value.absolute()
