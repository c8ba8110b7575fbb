"""Who asks: `tenants.yaml` and `applications.yaml`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from schemas.bundle.base import Amount, Frozen, Name, Share
from schemas.events import Sensitivity


class Limit(Frozen):
    """The most that may be asked for in one period; periods are those of the clock, in UTC."""

    # cost is in the unit of the prices.
    of: Literal["requests", "tokens", "cost"]
    per: Literal["minute", "hour", "day", "month"]
    at_most: float = Field(gt=0)


Limits = tuple[Limit, ...]


class Memory(Frozen):
    """What is remembered of a tenant's conversations."""

    # How long; 0: nothing is.
    hours: float = Field(default=24.0, ge=0, le=24 * 366)
    # Nothing above it is.
    sensitivity: Sensitivity = Sensitivity.CONFIDENTIAL


class Routing(Frozen):
    """What is wanted of the model that answers, beside that it is cleared. It says nothing: the cheapest answers."""

    # The chance of a right answer that the cheapest must have. Where none has it, the likeliest to be right answers.
    bar: Share = 0.0
    # 95 of 100 of a model's latest answers are to be complete by then; one that is slower answers where all are.
    latency_ms: Annotated[int, Field(gt=0)] | None = None
    # Share of the requests that another cleared model answers, so that something is learned of it, and the most that
    # one of them may cost, in the unit of the prices.
    exploration: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    exploration_price: Amount | None = None

    @model_validator(mode="after")
    def _explores_at_a_price(self) -> Self:
        if (self.exploration > 0) != (self.exploration_price is not None):
            raise ValueError("exploration_price: wanted with exploration, and with nothing else")
        return self


class Experts(Frozen):
    """How much experts are asked. Of several budgets that which allows least holds."""

    # Of the traffic.
    share: Share = 0.2
    items_per_day: Amount | None = None
    minutes_per_day: Amount | None = None
    # Part of what they are asked that is picked at random.
    exploration: Share = 0.1
    # Part of it that two of them are asked, so that it is seen how far they agree.
    overlap: Share = 0.0
    # How often a claim brings a question whose answer is known, so that it is seen how well experts judge.
    gold: Share = 0.0


class Tenant(Frozen):
    """A business unit."""

    region: Name
    memory: Memory = Memory()
    # For each of its tasks.
    experts: Experts = Experts()
    # Of all its applications together.
    limits: Limits = ()
    routing: Routing = Routing()


class LatencyObjective(Frozen):
    """So large a share of the answers is to be complete by then."""

    ms: Annotated[int, Field(gt=0)]
    share: Annotated[float, Field(gt=0, lt=1)]


class Objectives(Frozen):
    """What is promised of the service. What a share leaves is the error budget: audit alerts when it burns too fast."""

    # Share of the requests that are not to fail; refusals by guardrails and policies are no failures.
    availability: Annotated[float, Field(gt=0, lt=1)] | None = None
    latency: LatencyObjective | None = None


class Application(Frozen):
    """A caller. Only digests of its keys are kept: `gyre policy hash-key` prints one."""

    tenant: Name
    key_sha256: tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")], ...] = Field(min_length=1)
    tasks: tuple[Name, ...] = Field(min_length=1, description="what it may ask for; the first is its default")
    purpose: Name
    sensitivity: Sensitivity = Sensitivity.INTERNAL
    limits: Limits = ()
    objectives: Objectives = Objectives()
