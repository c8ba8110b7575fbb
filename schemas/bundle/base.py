"""What the parts of a bundle are made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
# Fewer requests do not say what a topic or a task is.
FEWEST_EXAMPLES = 5


class Frozen(BaseModel):
    """A part of a bundle: it never changes, and has no fields but its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")
