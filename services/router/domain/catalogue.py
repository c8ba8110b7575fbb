"""What the bundle and serving's deployments say, as the router looks it up."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.bundle import TRITON, Bundle, Price, Task, Upstream
from schemas.events import Deployment
from services.router.domain.errors import InvalidField
from services.router.domain.tasks import TaskClassifier
from services.runtime.errors import NotFound, Unauthenticated

AUTO = "auto"
# What policies and clearances call the specialist of the request's task.
SPECIALIST = "specialist"
# Cheapest first.
TIERS = ("specialist", "small", "large", "frontier")


@dataclass(frozen=True)
class Caller:
    """An application that showed its key."""

    application: str
    tenant: str
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class Candidate:
    """A live model that might answer.

    Attributes:
        name: What callers and records call it.
        cleared_as: What clearances call it.
        served_as: What its upstream calls it.
        version: Of the specialist; empty leaves it to Triton.
        max_tokens: Its longest answer.
        deployment: Of a specialist.
        price: Of its tokens.
        upstream_name: Where it runs.
        upstream: The same, as the bundle has it.
    """

    name: str
    cleared_as: str
    served_as: str
    version: str
    tier: str
    max_tokens: int
    deployment: Deployment | None = None
    price: Price = field(default_factory=Price)
    upstream_name: str = TRITON
    upstream: Upstream = field(default_factory=Upstream)


@dataclass(frozen=True)
class Settled:
    """What a request is for: the task, who said so, as the record has it, and a model's name, empty if none is."""

    task: str
    task_by: str
    model: str


@dataclass(frozen=True)
class Catalogue:
    """One state of the bundle and the deployments. A change makes a new one, so a request sees one state throughout."""

    bundle: Bundle
    version: str
    tasks: TaskClassifier
    deployments: Mapping[tuple[str, str], Deployment] = field(default_factory=dict)

    def caller(self, key: str) -> Caller:
        """Return the application that a key belongs to. It takes as long for a wrong key as for a right one.

        Raises:
            Unauthenticated: There is none.
        """
        shown = hashlib.sha256(key.encode(errors="replace")).hexdigest()  # a header may hold any bytes
        found = ""
        for name, application in self.bundle.applications.items():
            for digest in application.key_sha256:
                if hmac.compare_digest(digest, shown):
                    found = name
        if not found:
            raise Unauthenticated("the application key is not known")
        application = self.bundle.applications[found]
        return Caller(found, application.tenant, application.tasks)

    def task(self, name: str) -> Task:
        """Return what the bundle says of a task that it has."""
        return self.bundle.tasks[name]

    def settle(self, caller: Caller, task: str, model: str, said: str) -> Settled:
        """Settle what a request is for, and the model asked for by name.

        A task may also be named in the place of the model, for clients that can set nothing else. Where none is named,
        it is told from what the user said last.

        Raises:
            NotFound: The application has no such task, or there is no such model.
            InvalidField: The task named as the model is not the task named as the task.
        """
        if model in caller.tasks and model not in self.bundle.models:
            if task and task != model:
                raise InvalidField("model", f"names the task {model!r}, and task names {task!r}")
            task, model = model, ""
        if task:
            task_by = "caller"
        elif self.tasks.can_tell(caller.tasks):
            task = self.tasks.task_of(said, caller.tasks)
            task_by = "classifier" if task else "unknown"
        else:
            task_by = "default"
        task = task or caller.tasks[0]
        if task not in caller.tasks:
            raise NotFound(f"task: {task!r} is not known; wanted one of {', '.join(caller.tasks)}")
        if model in ("", AUTO):
            return Settled(task, task_by, "")
        names = [candidate.name for candidate in self.candidates(caller.tenant, task)]
        if model not in names:
            raise NotFound(f"model: {model!r} is not known; wanted one of {', '.join([AUTO, *caller.tasks, *names])}")
        return Settled(task, task_by, model)

    def candidates(self, tenant: str, task: str, who: str = "") -> tuple[Candidate, ...]:
        """Return the live models for a task, cheapest tier first.

        Args:
            tenant: Whose.
            task: Which.
            who: Asks, so that the same are answered by a canary for as long as there is one; empty: a canary answers.
        """
        generic = sorted(
            (
                Candidate(
                    name=name,
                    cleared_as=name,
                    served_as=model.served_as,
                    version="",
                    tier=model.tier,
                    max_tokens=model.max_tokens,
                    price=model.price,
                    upstream_name=model.upstream,
                    upstream=self.bundle.upstream(model.upstream),
                )
                for name, model in self.bundle.models.items()
            ),
            key=lambda candidate: TIERS.index(candidate.tier),
        )
        deployment = self.deployments.get((tenant, task))
        if deployment is not None and not _is_answered(who, deployment):
            deployment = deployment.proven
        if deployment is None or deployment.state != "live":
            return tuple(generic)
        return (self._specialist(deployment), *generic)

    def shadow(self, tenant: str, task: str) -> Candidate | None:
        """Return a task's specialist that is asked, and answers nobody, if it has one."""
        deployment = self.deployments.get((tenant, task))
        if deployment is None or deployment.state != "live" or deployment.share > 0:
            return None
        return self._specialist(deployment)

    def _specialist(self, deployment: Deployment) -> Candidate:
        task = self.bundle.tasks[deployment.task]
        return Candidate(
            name=deployment.model,
            cleared_as=SPECIALIST,
            served_as=deployment.model,
            version=deployment.model_version,
            tier="specialist",
            max_tokens=task.max_tokens,
            price=task.specialist_price,
            deployment=deployment,
            upstream=self.bundle.upstream(TRITON),
        )

    def model_names(self, caller: Caller) -> list[str]:
        """Return everything that an application may write as the model."""
        names = [candidate.name for task in caller.tasks for candidate in self.candidates(caller.tenant, task)]
        return list(dict.fromkeys([AUTO, *caller.tasks, *names]))


def _is_answered(who: str, deployment: Deployment) -> bool:
    """Say whether somebody is among those whom a deployment answers; among whom is drawn anew for each specialist."""
    if deployment.share >= 1 or not who:
        return deployment.share > 0
    drawn = hashlib.sha256(f"{deployment.candidate_id}/{who}".encode(errors="replace")).digest()
    return int.from_bytes(drawn[:8]) < deployment.share * 2**64
