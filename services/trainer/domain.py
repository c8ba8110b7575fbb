"""What there is to learn: edge cases and labels joined into rows, and the models that a gate compares. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from schemas.bundle import Bundle, Learning, Task
from schemas.events import BundlePublished, Deployment, EdgeCase, Label, Message, Sensitivity, Tool
from schemas.prompts import Prompt, decodable_schema, generic_messages, offered_schema, specialist_messages
from services.runtime.bundles import NOTHING_PUBLISHED, bundle_of
from services.runtime.errors import FailedPrecondition, NotFound, Rejected
from services.trainer.dataset import LabelledRow
from services.trainer.dataset import Message as Turn

LEARNABLE = ("confirmed", "corrected")


@dataclass
class Knowledge:
    """What the topics say: the bundle, what is live, and every edge case with its newest label."""

    bundle: Bundle | None = None
    bundle_version: str = ""
    deployments: dict[tuple[str, str], Deployment] = field(default_factory=dict)
    edge_cases: dict[str, EdgeCase] = field(default_factory=dict)
    labels: dict[tuple[str, str], dict[str, Label]] = field(default_factory=dict)  # by task, then by request

    def take_bundle(self, published: BundlePublished) -> None:
        """Put a bundle in force.

        Raises:
            Rejected: It cannot be used.
        """
        self.bundle = bundle_of(published)
        self.bundle_version = published.version

    def take_deployment(self, deployment: Deployment) -> None:
        """Remember what is live for a task."""
        self.deployments[deployment.tenant, deployment.task] = deployment

    def take_edge_case(self, case: EdgeCase) -> None:
        """Remember an edge case, whose label may come.

        Raises:
            Rejected: It is not a request that a model could learn to answer; the message names the field.
        """
        try:
            _shown(case, prompt="")
            for tool in case.tools:
                decodable_schema(tool_document(tool)["parameters"])
        except (ValueError, TypeError, AttributeError, msgspec.MsgspecError) as error:
            raise Rejected(f"edge case {case.request_id}: messages or tools cannot be learned from: {error}") from error
        self.edge_cases[case.request_id] = case

    def take_label(self, label: Label) -> None:
        """Remember the newest label of a request. One that was skipped says nothing, and takes no other's place."""
        labels = self.labels.setdefault((label.tenant, label.task), {})
        known = labels.get(label.request_id)
        if label.outcome != "skipped" and (known is None or known.labelled_at <= label.labelled_at):
            labels[label.request_id] = label

    def task(self, tenant: str, task: str) -> tuple[Task, Learning]:
        """Return a task of the bundle and how it learns.

        Raises:
            NotFound: The bundle has no such task.
            FailedPrecondition: It does not learn, or there is no bundle.
        """
        if self.bundle is None:
            raise FailedPrecondition(NOTHING_PUBLISHED)
        found = self.bundle.tasks.get(task)
        if found is None or found.tenant != tenant:
            raise NotFound(f"task: {tenant}/{task} is not in bundle {self.bundle_version}")
        if found.learning is None:
            raise FailedPrecondition(f"tasks.{task}.learning is not set in bundle {self.bundle_version}")
        return found, found.learning

    def rows(self, tenant: str, task: str, prompt: str) -> list[LabelledRow]:
        """Return what can be learned from for a task: labels that say what was right, of edge cases that are known."""
        return [_row(self.edge_cases[label.request_id], label, prompt) for label in self.learnable(tenant, task)]

    def learnable(self, tenant: str, task: str) -> Iterator[Label]:
        """Yield the labels of a task that `rows` are made of.

        Not one whose answer is empty: who confirms that a request was rightly refused shows no answer to learn.
        """
        for label in self.labels.get((tenant, task), {}).values():
            if label.outcome in LEARNABLE and label.answer.strip() and label.request_id in self.edge_cases:
                yield label


def _row(case: EdgeCase, label: Label, prompt: str) -> LabelledRow:
    return LabelledRow(
        request_id=label.request_id,
        label_id=label.label_id,
        labelled_at_ms=int(label.labelled_at.timestamp() * 1000),
        tenant=label.tenant,
        task=label.task,
        sensitivity=max(case.sensitivity, label.sensitivity, key=lambda s: s.level).value,
        source=label.expert,
        messages=_shown(case, prompt),
        completion=label.answer,
        tools=tuple(tool_document(tool) for tool in case.tools),
        system="\n\n".join(turn.content for turn in case.messages if turn.role in ("system", "developer")),
    )


def _shown(case: EdgeCase, prompt: str) -> tuple[Turn, ...]:
    """Return what a specialist with this prompt is shown of a request."""
    turns = tuple(msgspec.convert(message, Turn) for message in specialist_messages(prompt, case.messages))
    if turns[-1].role not in ("user", "tool"):
        raise ValueError(f"the last turn must be one to answer (user or tool), got {turns[-1].role}")
    return turns


def tool_document(tool: Tool) -> dict[str, Any]:
    """Return a function as the dataset keeps it."""
    return {
        "name": tool.name,
        "description": tool.description,
        "parameters": msgspec.json.decode(tool.parameters or "{}", type=dict[str, Any]),
    }


def tool_of(document: dict[str, Any]) -> Tool:
    """Return a function of the dataset as events have it."""
    return Tool(
        name=document["name"],
        description=document["description"],
        parameters=msgspec.json.encode(document["parameters"]).decode(),
    )


@dataclass(frozen=True)
class Contestant:
    """One side of a gate: a model in Triton and how it is asked.

    Attributes:
        name: A candidate's id or a generic model's name.
        model: As Triton names it.
        version: Of the model; empty: Triton's choice.
        prompt: A specialist's system prompt, or a generic model's with `{tools}` in it.
        schema: JSON Schema that a specialist's answers are held to where a request offers no functions; empty: none.
        specialist: Whether it does without function documents.
        function_call: Whether the task's answers are function calls.
        max_tokens: Longest answer.
    """

    name: str
    model: str
    version: str
    prompt: str
    schema: str
    specialist: bool
    function_call: bool
    max_tokens: int

    def question(self, row: LabelledRow) -> Prompt:
        """Return what this side is asked for a held-out request, as the router would ask it."""
        turns = [Message(role=turn.role, content=turn.content) for turn in row.messages if turn.role != "system"]
        tools = [tool_of(tool) for tool in row.tools]
        sampling: dict[str, Any] = {"temperature": 0, "max_tokens": self.max_tokens}
        schema = offered_schema(tools, self.function_call)
        if self.specialist:
            messages = specialist_messages(self.prompt, turns)
            schema = schema or self.schema
        else:
            own = [Message(role="system", content=row.system)] if row.system else []
            messages = generic_messages(self.prompt, [*own, *turns], tools)
        if schema:
            sampling["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": msgspec.json.decode(schema)},
            }
        return Prompt(self.model, self.version, messages, sampling)


def incumbent(bundle: Bundle, task: Task, deployment: Deployment | None) -> Contestant:
    """Return who answers a task's requests now: its live specialist, or the cheapest generic model.

    Raises:
        FailedPrecondition: There is neither.
    """
    if deployment is not None and deployment.state == "live":
        return Contestant(
            name=deployment.candidate_id,
            model=deployment.model,
            version=deployment.model_version,
            prompt=deployment.system_prompt,
            schema=deployment.response_schema,
            specialist=True,
            function_call=task.answers == "function-call",
            max_tokens=task.max_tokens,
        )
    tiers = ("small", "large", "frontier")
    generic = sorted((tiers.index(m.tier), name) for name, m in bundle.models.items() if m.tier in tiers)
    if not generic:
        raise FailedPrecondition("the bundle has no generic model for a candidate to be compared with")
    name = generic[0][1]
    model = bundle.models[name]
    return Contestant(
        name=name,
        model=model.triton_model,
        version="",
        prompt=task.generic_prompt,
        schema="",
        specialist=False,
        function_call=task.answers == "function-call",
        max_tokens=min(task.max_tokens, model.max_tokens),
    )


def highest(levels: Iterable[str]) -> Sensitivity:
    """Return the highest of some levels, public when there is none."""
    return max((Sensitivity(level) for level in levels), key=lambda s: s.level, default=Sensitivity.PUBLIC)
