"""The bundle: everything an operator decides, as files in git, validated whole and published whole.

A bundle folder holds `tenants.yaml`, `applications.yaml`, `models.yaml`, `tasks.yaml`, `guardrails.yaml`,
`policies/*.cedar`, where models run elsewhere than in Triton `upstreams.yaml`, and where candidates are to answer cases
of the operator's own `gate.yaml`. Its version is the digest of its content, so the same files are the same version
everywhere.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from schemas.events import Sensitivity

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
# What guardrails can look for. `denied` are the texts that the operator lists.
Kind = Literal[
    "secret",
    "iban",
    "card",
    "id",
    "email",
    "ip",
    "phone",
    "address",
    "name",
    "denied",
    "injection",
    "toxicity",
    "topic",
    "leak",
    "format",
]
# Kinds that a classifier finds: it says how likely, and not where they begin and end.
CLASSIFIED: frozenset[Kind] = frozenset({"injection", "toxicity", "topic"})
# Kinds that are about an answer beside what was asked for.
OF_ANSWERS: frozenset[Kind] = frozenset({"leak", "format"})
# Fewer requests do not say what a topic is.
FEWEST_EXAMPLES = 5
Accepted = Literal["provisional", "agreed", "adjudicated"]
# Kinds that are looked for once more before anything is learned, by slower detectors than guardrails have.
Rescanned = Literal["secret", "iban", "card", "id", "email", "ip", "phone"]
Direction = Literal["input", "output", "document"]
# Guardrails of the tenants that have no list of their own.
DEFAULT = "default"
# The upstream that is always there: its address is a setting of those who ask it.
TRITON = "triton"


class InvalidBundleError(ValueError):
    """A bundle that may not be published; the message names the file and the field and says what was wanted."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limit(_Frozen):
    """The most that may be asked for in one period; periods are those of the clock, in UTC."""

    # cost is in the unit of the prices.
    of: Literal["requests", "tokens", "cost"]
    per: Literal["minute", "hour", "day", "month"]
    at_most: float = Field(gt=0)


Limits = tuple[Limit, ...]


class Memory(_Frozen):
    """What is remembered of a tenant's conversations."""

    # How long; 0: nothing is.
    hours: float = Field(default=24.0, ge=0, le=24 * 366)
    # Nothing above it is.
    sensitivity: Sensitivity = Sensitivity.CONFIDENTIAL


class Price(_Frozen):
    """What a model's tokens cost. All prices of a bundle are in one unit, whichever the operator counts in."""

    per_million_prompt_tokens: Amount = 0.0
    per_million_completion_tokens: Amount = 0.0

    def of(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Return what so many tokens cost."""
        prompt = prompt_tokens * self.per_million_prompt_tokens
        return (prompt + completion_tokens * self.per_million_completion_tokens) / 1e6


class Routing(_Frozen):
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


class Experts(_Frozen):
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


class Tenant(_Frozen):
    """A business unit."""

    region: Name
    memory: Memory = Memory()
    # For each of its tasks.
    experts: Experts = Experts()
    # Of all its applications together.
    limits: Limits = ()
    routing: Routing = Routing()


class LatencyObjective(_Frozen):
    """So large a share of the answers is to be complete by then."""

    ms: Annotated[int, Field(gt=0)]
    share: Annotated[float, Field(gt=0, lt=1)]


class Objectives(_Frozen):
    """What is promised of the service. What a share leaves is the error budget: audit alerts when it burns too fast."""

    # Share of the requests that are not to fail; refusals by guardrails and policies are no failures.
    availability: Annotated[float, Field(gt=0, lt=1)] | None = None
    latency: LatencyObjective | None = None


class Application(_Frozen):
    """A caller. Only digests of its keys are kept: `gyre policy hash-key` prints one."""

    tenant: Name
    key_sha256: tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")], ...] = Field(min_length=1)
    tasks: tuple[Name, ...] = Field(min_length=1, description="what it may ask for; the first is its default")
    purpose: Name
    sensitivity: Sensitivity = Sensitivity.INTERNAL
    limits: Limits = ()
    objectives: Objectives = Objectives()


class Upstream(_Frozen):
    """A server that runs models: Triton, or one that speaks the OpenAI protocol."""

    # Of an OpenAI-compatible server, up to its version: https://llm.example.com/v1. The key for it is no part of the
    # bundle: `GYRE_UPSTREAM_KEYS` holds it.
    url: Annotated[str, Field(pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*[^\s?#/])?$")] | None = None
    # Answers that one replica of the router has it write at once; further requests wait.
    concurrency: Annotated[int, Field(ge=1, le=10_000)] = 64


class Model(_Frozen):
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


class ToolDocument(_Frozen):
    """A function as its document describes it."""

    name: Annotated[str, Field(min_length=1, max_length=256)]
    description: str = ""
    # JSON Schema.
    parameters: dict[str, Any] = {}


class Rollout(_Frozen):
    """How a promoted specialist goes live, and when serving takes it back by itself."""

    # Share of the callers whom it answers at first, and how many of their requests it must have answered well before
    # it answers all.
    canary_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    canary_requests: int = Field(default=0, ge=0)
    # The chance that one is taken back which is as good as what it replaced, at most; 0: none is.
    false_rollbacks: Annotated[float, Field(ge=0, le=0.5)] = 0.01

    @model_validator(mode="after")
    def _has_a_canary_that_is_watched(self) -> Self:
        if (self.canary_share < 1) != (self.canary_requests > 0):
            raise ValueError("canary_requests: wanted with a canary_share below 1, and with nothing else")
        if self.canary_share < 1 and not self.false_rollbacks:
            raise ValueError("false_rollbacks: wanted above 0 with a canary, whom nobody would watch")
        return self


class Learning(_Frozen):
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


class GateCase(_Frozen):
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


class Cascade(_Frozen):
    """When an answer is not good enough, so that a cleared model of a higher tier is asked as well.

    An answer that does not have the form it was to have never is. Streams of such a task leave whole.
    """

    # An answer that is right with a smaller chance, as the router judges by how likely the model found it, is not sure
    # enough; none: only its form counts.
    chance: Annotated[float, Field(gt=0, lt=1)] | None = None


class Template(_Frozen):
    """An answer, or the beginning of one, that experts often give."""

    name: Annotated[str, Field(min_length=1, max_length=60)]
    # Of a function-call task: a call, `{"name": ..., "arguments": {...}}`.
    text: Annotated[str, Field(min_length=1, max_length=20_000)]


class Task(_Frozen):
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
            if not _is_call(template.text):
                raise ValueError(f"templates.{number}.text: wanted {_CALL}")
        return self


_CALL = 'a call as JSON, {"name": ..., "arguments": {...}}'


def _is_call(text: str) -> bool:
    try:
        call = json.loads(text)
    except ValueError:
        return False
    return isinstance(call, dict) and set(call) == {"name", "arguments"}


class Guardrail(_Frozen):
    """What is looked for in requests and answers, and what is done about it."""

    detect: tuple[Kind, ...] = Field(min_length=1)
    # mask: a model and the record see `<EMAIL_1>`. refuse: nobody gets an answer. flag: it is on record, no more.
    # require: only models that are cleared for `sensitivity` may see the request.
    action: Literal["mask", "refuse", "flag", "require"]
    # What a request becomes, at least, when something is found in it.
    sensitivity: Sensitivity | None = None
    # input is what is asked, output what is answered, document what is ingested for later requests.
    directions: tuple[Direction, ...] = Field(default=("input", "output"), min_length=1)
    # What `denied` looks for: whole words, in any case. Of a topic: requests that are about it, as examples.
    texts: tuple[Annotated[str, Field(min_length=3)], ...] = ()
    # What `topic` is called in findings.
    topic: Name | None = None
    # The probability from which a classifier's find counts; none: the one that it comes with.
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    # How many words of the model's instructions in a row are a `leak`.
    words: Annotated[int, Field(ge=6, le=100)] = 10

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        if self.action == "require" and self.sensitivity is None:
            raise ValueError("sensitivity: wanted, for the action `require` is about it")
        if self.action == "require" and "output" in self.directions:
            raise ValueError("directions: wanted no output for the action `require`: an answer has its model already")
        if self.sensitivity is not None and set(self.directions) == {"output"}:
            raise ValueError("sensitivity: wanted none on output alone: it is the request that it raises")
        if len(set(self.detect)) < len(self.detect):
            raise ValueError("detect: wanted each kind once")
        if ("topic" in self.detect) != (self.topic is not None):
            raise ValueError("topic: wanted with `topic`, and with nothing else")
        if "topic" in self.detect and (len(self.detect) > 1 or len(self.texts) < FEWEST_EXAMPLES):
            raise ValueError(f"texts: wanted {FEWEST_EXAMPLES} examples of one topic or more, and no other kind")
        if "topic" not in self.detect and ("denied" in self.detect) != bool(self.texts):
            raise ValueError("texts: wanted with `denied` and `topic`, and with nothing else")
        classified = CLASSIFIED.intersection(self.detect)
        for kind in sorted({*classified, "format"}.intersection(self.detect)):
            if self.action == "mask":
                raise ValueError(f"action: wanted none that masks, for {kind} is of a text, not of a place in it")
        if "injection" in self.detect and "output" in self.directions:
            raise ValueError("directions: wanted no output for injection: an answer goes to no model")
        for kind in sorted(OF_ANSWERS.intersection(self.detect)):
            if set(self.directions) != {"output"}:
                raise ValueError(f"directions: wanted [output] for {kind}, which only an answer has")
        if self.threshold is not None and len(self.detect) != len(classified):
            raise ValueError(f"threshold: wanted with nothing but {', '.join(sorted(CLASSIFIED))}")
        return self


class Bundle(_Frozen):
    """Everything an operator decides."""

    tenants: dict[Name, Tenant] = Field(min_length=1)
    # All that models are at; Triton is also there where it is not listed.
    upstreams: dict[Name, Upstream] = {}
    applications: dict[Name, Application] = Field(min_length=1)
    models: dict[Name, Model] = Field(min_length=1)
    tasks: dict[Name, Task] = Field(min_length=1)
    # By tenant. Where finds overlap, the guardrail that comes first names them.
    guardrails: dict[Name, tuple[Guardrail, ...]]
    # Cedar policies by file name.
    policies: dict[str, str] = Field(min_length=1)
    # By task, what its candidates are asked beside the hold-out.
    gate: dict[Name, tuple[GateCase, ...]] = {}

    @model_validator(mode="after")
    def _refers_to_what_exists(self) -> Self:
        for name, task in self.tasks.items():
            if task.tenant not in self.tenants:
                raise ValueError(f"tasks.{name}.tenant: {task.tenant!r} is not in tenants.yaml")
        owners: dict[str, str] = {}
        for name, application in self.applications.items():
            for key in application.key_sha256:
                if owners.setdefault(key, name) != name:
                    raise ValueError(f"applications.{name}.key_sha256: {key[:8]}... is {owners[key]}'s already")
            if application.tenant not in self.tenants:
                raise ValueError(f"applications.{name}.tenant: {application.tenant!r} is not in tenants.yaml")
            for asked in application.tasks:
                if asked not in self.tasks:
                    raise ValueError(f"applications.{name}.tasks: {asked!r} is not in tasks.yaml")
                if self.tasks[asked].tenant != application.tenant:
                    raise ValueError(f"applications.{name}.tasks: {asked!r} belongs to another tenant")
        return self

    @model_validator(mode="after")
    def _finds_every_model(self) -> Self:
        for name, upstream in self.upstreams.items():
            if (name == TRITON) != (upstream.url is None):
                wanted = "wanted none, for it is a setting" if name == TRITON else "wanted"
                raise ValueError(f"upstreams.{name}.url: {wanted}")
        for name, model in self.models.items():
            if model.upstream not in (TRITON, *self.upstreams):
                raise ValueError(f"models.{name}.upstream: {model.upstream!r} is not in upstreams.yaml")
        return self

    @model_validator(mode="after")
    def _guards_every_tenant_in_one_way(self) -> Self:
        if DEFAULT not in self.guardrails:
            raise ValueError(f"guardrails.{DEFAULT}: wanted, for tenants without a list of their own; it may be empty")
        for tenant, guardrails in self.guardrails.items():
            if tenant not in (DEFAULT, *self.tenants):
                raise ValueError(f"guardrails.{tenant}: {tenant!r} is not in tenants.yaml")
            seen: set[tuple[str, str]] = set()
            for place in (
                (kind, direction) for each in guardrails for kind in each.detect for direction in each.directions
            ):
                if place in seen and place[0] not in ("denied", "topic"):
                    raise ValueError(f"guardrails.{tenant}: {place[0]} is looked for twice in one {place[1]}")
                seen.add(place)
        return self

    @model_validator(mode="after")
    def _asks_candidates_what_they_can_answer(self) -> Self:
        for name, cases in self.gate.items():
            task = self.tasks.get(name)
            if task is None or task.learning is None:
                raise ValueError(f"gate.{name}: wanted a task of tasks.yaml that has `learning`")
            for number, case in enumerate(cases if task.answers == "function-call" else ()):
                if case.answer and not _is_call(case.answer):
                    raise ValueError(f"gate.{name}.{number}.answer: wanted {_CALL}")
        return self

    def guardrails_of(self, tenant: str, direction: Direction) -> list[Guardrail]:
        """Return a tenant's guardrails on what comes in or what goes out, in order."""
        guardrails = self.guardrails.get(tenant, self.guardrails[DEFAULT])
        return [each for each in guardrails if direction in each.directions]

    def upstream(self, name: str) -> Upstream:
        """Return an upstream that a model names."""
        return self.upstreams.get(name) or Upstream()

    def routing_of(self, task: str) -> Routing:
        """Return what is wanted of the model that answers a task: its own word, else its tenant's."""
        return self.tasks[task].routing or self.tenants[self.tasks[task].tenant].routing

    def rollout_of(self, task: str) -> Rollout:
        """Return how the specialists of a task go live."""
        known = self.tasks.get(task)
        return known.learning.rollout if known and known.learning else Rollout()

    def experts_of(self, tenant: str, task: str) -> Experts:
        """Return how much experts are asked about a task: its own word, else its tenant's."""
        known = self.tasks.get(task)
        return (known and known.experts) or self.tenants[tenant].experts

    def wants_call(self, task: str) -> bool:
        """Say whether a task wants a function call for an answer."""
        return task in self.tasks and self.tasks[task].answers == "function-call"

    @property
    def version(self) -> str:
        """Digest of the content, 12 hex digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]


def load_bundle(folder: Path) -> Bundle:
    """Read and validate a bundle folder.

    Raises:
        InvalidBundleError: A file is missing, is not YAML, or holds something that was not wanted.
    """
    import yaml  # only those who publish bundles need it

    content: dict[str, object] = {}
    for part in ("tenants", "applications", "upstreams", "models", "tasks", "guardrails", "gate"):
        path = folder / f"{part}.yaml"
        try:
            content[part] = yaml.safe_load(path.read_text())
        except FileNotFoundError as error:
            if part in ("upstreams", "gate"):
                continue
            raise InvalidBundleError(f"{path} is missing") from error
        except yaml.YAMLError as error:
            raise InvalidBundleError(f"{path} is not YAML: {error}") from error
    content["policies"] = {path.name: path.read_text() for path in sorted((folder / "policies").glob("*.cedar"))}
    try:
        return Bundle.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        raise InvalidBundleError(f"{folder}: {where}: {message}" if where else f"{folder}: {message}") from error
