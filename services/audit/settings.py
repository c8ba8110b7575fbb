from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from services.runtime.settings import ModelSettings


class Settings(ModelSettings):
    """What an operator decides about audit (`GYRE_AUDIT_*`)."""

    model_config = SettingsConfigDict(env_prefix="GYRE_AUDIT_")

    grpc_port: int = 18084
    batch_records: int = Field(
        default=30_000, ge=1, description="at most so many records in one insert; two are in work at once"
    )
    flush_seconds: float = Field(
        default=0.2, ge=0, description="pause between small batches: ClickHouse wants few large inserts"
    )
    signing_keys: SecretStr = Field(
        default=SecretStr(""),
        description="what checkpoints are signed with, apart by spaces, made by `gyre audit keygen`; none: unsigned",
    )
    former_keys: str = Field(
        default="",
        description="public keys, apart by spaces, that checkpoints were signed with before and are believed",
    )
    checkpoint_seconds: float = Field(default=60, ge=0, description="how long a row may be unsigned")
    checkpoints_file: Path | None = Field(
        default=None, description="where checkpoints are written as well, to be kept out of reach of the database"
    )
    drift_share: float = Field(default=1.0, ge=0, le=1, description="of the requests, watched for drift; 0: none is")
    drift_requests_per_false_alarm: int = Field(
        default=100_000, ge=1000, description="over all streams and measures, one false alarm in so many at most"
    )
    drift_parts: Literal[1, 24, 168] = Field(
        default=24,
        description="24 compares each hour of the day with itself, 168 each of the week, 1 any time with any",
    )
    drift_streams: int = Field(default=500, ge=1, description="tenants, tasks and models of tasks watched at once")
