"""What requests are for, and how a task's specialist is made: `tasks.yaml` and `gate.yaml`."""

import hashlib
import json
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from schemas.bundle.base import FEWEST_EXAMPLES, Frozen, Name, Share
from schemas.bundle.models import Price
from schemas.bundle.tenants import Experts, Objectives, Routing

Accepted = Literal["provisional", "agreed", "adjudicated"]
# Kinds that are looked for once more before anything is learned, by slower detectors than guardrails have.
Rescanned = Literal["secret", "iban", "card", "id", "email", "ip", "phone"]


class ToolDocument(Frozen):
    """A function as its document describes it."""

    name: Annotated[str, Field(min_length=1, max_length=256)]
    description: str = ""
    # JSON Schema.
    parameters: dict[str, Any] = Field(default_factory=dict)


class Rollout(Frozen):
    """How a promoted specialist goes live, and when serving takes it back by itself."""

    # How many requests it must have answered well in the shadow: what others have answered it is asked too, and nobody
    # gets what it says; 0: none.
    shadow_requests: int = Field(default=0, ge=0)
    # Share of the callers whom it answers at first, and how many of their requests it must have answered well before
    # it answers all.
    canary_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    canary_requests: int = Field(default=0, ge=0)
    # The chance that one is taken back which is as good as what it replaced, at most; 0: none is.
    false_rollbacks: Annotated[float, Field(ge=0, le=0.5)] = 0.01

    @model_validator(mode="after")
    def _is_watched(self) -> Self:
        if (self.canary_share < 1) != (self.canary_requests > 0):
            raise ValueError("canary_requests: wanted with a canary_share below 1, and with nothing else")
        if (self.canary_share < 1 or self.shadow_requests) and not self.false_rollbacks:
            raise ValueError("false_rollbacks: wanted above 0 with a shadow or a canary, whom nobody would watch")
        return self


class Learning(Frozen):
    """When a task's labels become a run, and what a candidate must show."""

    labels_needed: int = Field(ge=1, description="new labels that start a run by themselves")
    holdout_share: float = Field(default=0.2, gt=0, lt=1)
    holdout_minimum: int = Field(default=40, ge=1, description="fewest held-out labels that a gate may decide on")
    minimum_gain: float = Field(default=0.0, ge=-1, lt=1, description="the gain's lower bound must lie above this")
    # Of the cases of gate.yaml that the incumbent answers rightly, the share that a candidate may lose.
    retained_loss: Share = 0.0
    # States of requests (`schemas.labels`) whose labels are learned from. What is disputed, escalated or taken back, or
    # was called unsafe, never is.
    accepts: tuple[Accepted, ...] = Field(default=("provisional", "agreed", "adjudicated"), min_length=1)
    # Kinds of personal data and secrets: where request or answer holds one in the clear, a label is not learned from.
    personal_data: tuple[Rescanned, ...] = ("secret", "iban", "card", "id", "email", "phone")
    rollout: Rollout = Rollout()

    @model_validator(mode="after")
    def _names_each_once(self) -> Self:
        for name, values in (("accepts", self.accepts), ("personal_data", self.personal_data)):
            if len(set(values)) < len(values):
                raise ValueError(f"{name}: wanted each once")
        return self


class GateCase(Frozen):
    """A request that every candidate of a task is asked, whatever experts have labelled."""

    # What a user says.
    request: Annotated[str, Field(min_length=1, max_length=20_000)]
    # Functions on offer, as the OpenAI protocol describes each.
    tools: tuple[ToolDocument, ...] = ()
    # The right answer; of a function-call task a call, `{"name": ..., "arguments": {...}}`.
    answer: Annotated[str, Field(max_length=20_000)] = ""
    # Texts that no answer may hold, in any case.
    never: tuple[Annotated[str, Field(min_length=3)], ...] = ()

    @model_validator(mode="after")
    def _says_what_is_wanted(self) -> Self:
        if bool(self.answer) == bool(self.never):
            raise ValueError("answer: wanted, or `never`, and not both")
        return self


class Cascade(Frozen):
    """When an answer is not good enough, so that a cleared model of a higher tier is asked as well.

    An answer that does not have the form it was to have never is. Streams of such a task leave whole.
    """

    # An answer that is right with a smaller chance, as the router judges by how likely the model found it, is not sure
    # enough; none: only its form counts.
    chance: Annotated[float, Field(gt=0, lt=1)] | None = None


class Template(Frozen):
    """An answer, or the beginning of one, that experts often give."""

    name: Annotated[str, Field(min_length=1, max_length=60)]
    # Of a function-call task: a call, `{"name": ..., "arguments": {...}}`.
    text: Annotated[str, Field(min_length=1, max_length=20_000)]


class Task(Frozen):
    """What requests are for. Specialists are trained per (tenant, task)."""

    tenant: Name
    # Given to the generic model; `{tools}` is replaced by the request's function documents.
    generic_prompt: str
    # Given to the specialist, which knows the functions.
    specialist_prompt: str
    answers: Literal["text", "function-call"] = "text"
    # What experts are to hold answers to, and what they may begin theirs with; each template has a key of its own.
    guideline: Annotated[str, Field(max_length=20_000)] = ""
    templates: Annotated[tuple[Template, ...], Field(max_length=6)] = ()
    # Requests that are for it. By them the task is told of a request that names none, where an application has several.
    examples: tuple[Annotated[str, Field(min_length=3)], ...] = ()
    prompt_budget_tokens: int = Field(default=2048, gt=0)
    # What gives way where a request is over that budget. oldest-turns: the oldest turns are left out, but instructions
    # and the last user turn with all behind it stay. longest-texts: the longest texts of all turns lose their middles.
    # nothing: it is refused.
    cut: Literal["oldest-turns", "longest-texts", "nothing"] = "oldest-turns"
    context_budget_tokens: int = Field(default=512, ge=0)
    max_tokens: int = Field(default=256, gt=0)
    deadline_ms: int = Field(default=60_000, gt=0)
    cascade: Cascade | None = None
    learning: Learning | None = None
    # Of its specialist's tokens.
    specialist_price: Price = Price()
    # In place of its tenant's.
    routing: Routing | None = None
    experts: Experts | None = None
    objectives: Objectives = Objectives()

    @property
    def guideline_version(self) -> str:
        """Of the guideline's text, so that a label can say which one its expert had; empty without a guideline."""
        return hashlib.sha256(self.guideline.encode()).hexdigest()[:12] if self.guideline else ""

    @model_validator(mode="after")
    def _has_examples_enough(self) -> Self:
        if 0 < len(self.examples) < FEWEST_EXAMPLES:
            raise ValueError(f"examples: wanted {FEWEST_EXAMPLES} or more, or none")
        return self

    @model_validator(mode="after")
    def _has_templates_of_its_form(self) -> Self:
        for number, template in enumerate(self.templates if self.answers == "function-call" else ()):
            if not is_call(template.text):
                raise ValueError(f"templates.{number}.text: wanted {CALL}")
        return self


CALL = 'a call as JSON, {"name": ..., "arguments": {...}}'


def is_call(text: str) -> bool:
    """Say whether a text is a call as JSON."""
    try:
        call = json.loads(text)
    except ValueError:
        return False
    return isinstance(call, dict) and set(call) == {"name", "arguments"}
