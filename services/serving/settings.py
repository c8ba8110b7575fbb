"""What serving reads from the environment (`GYRE_SERVING_*`, and where the others are)."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.runtime.settings import ModelSettings


class Settings(ModelSettings):
    """Where serving listens, which Triton it keeps, and how model versions are run."""

    model_config = SettingsConfigDict(env_prefix="GYRE_SERVING_")

    grpc_port: int = 18087
    triton_url: str = Field(default="127.0.0.1:18001", validation_alias="GYRE_TRITON_URL")
    triton_repository: Path = Field(default=Path(".state/triton/models"), validation_alias="GYRE_TRITON_REPOSITORY")
    artifacts_dir: Path = Field(default=Path(".state/artifacts"), validation_alias="GYRE_ARTIFACTS_DIR")
    reconcile_seconds: float = Field(default=5.0, gt=0, description="between two looks at Triton")
    load_seconds: float = Field(default=60.0, gt=0, description="for loading a model, or asking it whether it answers")
    idle_hours: float = Field(
        default=0.0, ge=0, description="after which a specialist nobody asks is unloaded; 0: never"
    )
    parallel: int = Field(default=2, ge=1, description="answers that a model version generates at once, a core each")
    context_tokens: int = Field(default=2048, ge=256, description="prompt and answer together, per request")
