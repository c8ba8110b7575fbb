"""Who answers: `models.yaml` and `upstreams.yaml`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from schemas.bundle.base import Amount, Frozen, Name

# The upstream that is always there: its address is a setting of those who ask it.
TRITON = "triton"


class Price(Frozen):
    """What a model's tokens cost. All prices of a bundle are in one unit, whichever the operator counts in."""

    per_million_prompt_tokens: Amount = 0.0
    per_million_completion_tokens: Amount = 0.0

    def of(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Return what so many tokens cost."""
        prompt = prompt_tokens * self.per_million_prompt_tokens
        return (prompt + completion_tokens * self.per_million_completion_tokens) / 1e6


class Upstream(Frozen):
    """A server that runs models: Triton, or one that speaks the OpenAI protocol."""

    # Of an OpenAI-compatible server, up to its version: https://llm.example.com/v1. The key for it is no part of the
    # bundle: `GYRE_UPSTREAM_KEYS` holds it.
    url: Annotated[str, Field(pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*[^\s?#/])?$")] | None = None
    # Answers that one replica of the router has it write at once; further requests wait.
    concurrency: Annotated[int, Field(ge=1, le=10_000)] = 64


class Model(Frozen):
    """A generic model. Specialists are not listed: serving announces them on its deployments topic."""

    tier: Literal["small", "large", "frontier"]
    upstream: Name = TRITON
    # What its upstream calls it.
    served_as: str = Field(min_length=1)
    # GGUF file under the models folder that serving loads for it into Triton; empty: its upstream has it already.
    weights: str = ""
    max_tokens: int = Field(gt=0, description="longest answer")
    region: Name
    price: Price = Price()

    @model_validator(mode="after")
    def _has_weights_in_triton_alone(self) -> Self:
        if self.weights and self.upstream != TRITON:
            raise ValueError(f"weights: wanted none, for {self.upstream!r} loads its models itself")
        return self
