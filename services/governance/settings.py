"""What governance reads from the environment (`GYRE_GOVERNANCE_*`)."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.runtime.settings import ModelSettings


class Settings(ModelSettings):
    """Where governance listens. All that it decides by comes from the bundle."""

    model_config = SettingsConfigDict(env_prefix="GYRE_GOVERNANCE_")

    grpc_port: int = 18082
    exchange_port: int = Field(default=18092, description="for other services")
