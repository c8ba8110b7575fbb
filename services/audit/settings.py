from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.runtime.settings import ServiceSettings


class Settings(ServiceSettings):
    """What an operator decides about audit (`GYRE_AUDIT_*`)."""

    model_config = SettingsConfigDict(env_prefix="GYRE_AUDIT_", frozen=True)

    grpc_port: int = 18084
    batch_records: int = Field(default=5000, ge=1, description="at most so many records at once, over all partitions")
    flush_seconds: float = Field(
        default=0.2, ge=0, description="pause between small batches: ClickHouse wants few large inserts"
    )
