"""What the router reads from the environment (`GYRE_ROUTER_*`, and where the others are)."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.runtime.settings import ModelSettings


class Settings(ModelSettings):
    """Where the router listens, whom it asks, and how long it waits for them."""

    model_config = SettingsConfigDict(env_prefix="GYRE_ROUTER_")

    grpc_port: int = 18081
    http_port: int = Field(default=18080, description="OpenAI-compatible")
    governance_target: str = Field(default="127.0.0.1:18092", validation_alias="GYRE_GOVERNANCE_TARGET")
    context_target: str = Field(default="127.0.0.1:18093", validation_alias="GYRE_CONTEXT_TARGET")
    in_flight: int = Field(default=256, ge=1, description="requests under way at once; further ones are turned away")
    governance_seconds: float = Field(default=2.0, gt=0, description="without a verdict by then a request is refused")
    idempotency_seconds: float = Field(default=600.0, gt=0, description="time that an answer is kept for its key")
    idempotency_entries: int = Field(default=10_000, ge=0, description="answers kept at most; the oldest make room")
    idempotency_bytes: int = Field(default=64 * 1024 * 1024, ge=0, description="of them, together")
    context_seconds: float = Field(default=0.5, gt=0, description="a request goes on without context after that")
