"""What context reads from the environment (`GYRE_CONTEXT_*`)."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.runtime.settings import ModelSettings


class Settings(ModelSettings):
    """Where context listens, and how much it keeps and offers."""

    model_config = SettingsConfigDict(env_prefix="GYRE_CONTEXT_")

    grpc_port: int = 18083
    exchange_port: int = Field(default=18093, description="for other services")
    governance_target: str = Field(default="127.0.0.1:18092", validation_alias="GYRE_GOVERNANCE_TARGET")
    governance_seconds: float = Field(
        default=10.0, gt=0, description="without a verdict by then a document is not ingested"
    )
    passage_tokens: int = Field(default=200, ge=16, description="longest passage, about")
    candidates: int = Field(default=20, ge=1, description="passages that each of the two searches puts forward")
    minimum_similarity: float = Field(
        default=0.3, ge=-1, le=1, description="cosine below which a passage is not found by its meaning"
    )
    memory_turns: int = Field(default=8, ge=1, description="newest interactions kept whole of a conversation")
    memory_condensed_turns: int = Field(default=24, ge=1, description="interactions kept condensed before those")
    memory_conversations: int = Field(default=10_000, ge=1, description="conversations kept, the last ones used")
    memory_turn_tokens: int = Field(default=4096, ge=1, description="a longer interaction is not kept")
    memory_share: float = Field(
        default=0.5, ge=0, le=1, description="part of a budget that memory takes before passages; see README"
    )
    snapshot_dir: Path | None = Field(default=None, description="of this replica alone; none: it keeps no snapshot")
    snapshot_seconds: float = Field(default=300.0, gt=0, description="between two snapshots")
