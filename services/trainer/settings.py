"""What the trainer reads from the environment (`GYRE_TRAINER_*`, and where the others are)."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.runtime.settings import ModelSettings


class Settings(ModelSettings):
    """Where the trainer listens, what it trains on, and whom it asks for the gate."""

    model_config = SettingsConfigDict(env_prefix="GYRE_TRAINER_")

    grpc_port: int = 18086
    serving_target: str = Field(default="127.0.0.1:18087", validation_alias="GYRE_SERVING_TARGET")
    artifacts_dir: Path = Field(default=Path(".state/artifacts"), validation_alias="GYRE_ARTIFACTS_DIR")
    base: str = Field(default="base", description="Hugging Face folder of the base model, below the models folder")
    device: Literal["cpu", "gpu"] = Field(default="cpu", description="which training configuration is used")
    epochs: int | None = Field(default=None, ge=1, description="instead of the configuration's own")
    ray_address: str = Field(default="", description="a Ray cluster to join; empty: Ray is started for each run")
    gate_in_flight: int = Field(default=4, ge=1, description="hold-out requests asked at once")
    look_seconds: float = Field(
        default=2.0, gt=0, description="between two looks at the labels and at a run's progress"
    )
