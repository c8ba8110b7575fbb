"""The bundle as a whole: what its parts say of one another, and how it is read."""

import hashlib
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, model_validator

from schemas.bundle.base import Frozen, Name
from schemas.bundle.guardrails import DEFAULT, Direction, Guardrail
from schemas.bundle.models import TRITON, Model, Upstream
from schemas.bundle.tasks import CALL, GateCase, Rollout, Task, is_call
from schemas.bundle.tenants import Application, Experts, Routing, Tenant


class InvalidBundleError(ValueError):
    """A bundle that may not be published; the message names the file and the field and says what was wanted."""


class Bundle(Frozen):
    """Everything an operator decides."""

    tenants: dict[Name, Tenant] = Field(min_length=1)
    # All that models are at; Triton is also there where it is not listed.
    upstreams: dict[Name, Upstream] = Field(default_factory=dict)
    applications: dict[Name, Application] = Field(min_length=1)
    models: dict[Name, Model] = Field(min_length=1)
    tasks: dict[Name, Task] = Field(min_length=1)
    # By tenant. Where finds overlap, the guardrail that comes first names them.
    guardrails: dict[Name, tuple[Guardrail, ...]]
    # Cedar policies by file name.
    policies: dict[str, str] = Field(min_length=1)
    # By task, what its candidates are asked beside the hold-out.
    gate: dict[Name, tuple[GateCase, ...]] = Field(default_factory=dict)

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
                if case.answer and not is_call(case.answer):
                    raise ValueError(f"gate.{name}.{number}.answer: wanted {CALL}")
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
