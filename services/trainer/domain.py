"""An edge case and its label as a row to learn, and the models that a gate compares. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from schemas.answers import same_answer
from schemas.bundle import TRITON, Bundle, GateCase, Price, Task
from schemas.events import Deployment, EdgeCase, Label, Message, Sensitivity, Tool
from schemas.labels import Outcome, State
from schemas.prompts import Prompt, generic_messages, offered_schema, specialist_messages
from services.runtime.errors import FailedPrecondition
from services.trainer.dataset import LabelledRow, asked
from services.trainer.dataset import Message as Turn


def row(case: EdgeCase, label: Label, state: State, prompt: str) -> LabelledRow:
    """Return an edge case with its label as a specialist with this prompt learns it."""
    return LabelledRow(
        request_id=label.request_id,
        label_id=label.label_id,
        labelled_at_ms=int(label.labelled_at.timestamp() * 1000),
        tenant=label.tenant,
        task=label.task,
        sensitivity=max(case.sensitivity, label.sensitivity, key=lambda s: s.level).value,
        source=label.expert,
        messages=shown(case, prompt),
        completion=label.answer,
        tools=tuple(tool_document(tool) for tool in case.tools),
        system="\n\n".join(turn.content for turn in case.messages if turn.role in ("system", "developer")),
        state=state,
        outcome="confirmed" if label.outcome == Outcome.CONFIRMED else "corrected",
        origin="imported" if case.imported else "explored" if case.explored else "flagged",
        rejected="" if same_answer(label.model_answer, label.answer) else label.model_answer,
    )


def replayed(row: LabelledRow, prompt: str) -> LabelledRow:
    """Return a row of an earlier dataset as a specialist with this prompt learns it."""
    return msgspec.structs.replace(row, messages=(Turn("system", prompt), *asked(row.messages)))


def shown(case: EdgeCase, prompt: str) -> tuple[Turn, ...]:
    """Return what a specialist with this prompt is shown of a request.

    Raises:
        ValueError: It does not end in a turn to answer.
    """
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
class Case:
    """A case of the bundle, as it is asked and as its answer is judged."""

    messages: tuple[Turn, ...]
    tools: tuple[dict[str, Any], ...]
    answer: str
    never: tuple[str, ...]
    system: str = ""

    @classmethod
    def of(cls, case: GateCase) -> "Case":
        """Return a case of the bundle."""
        tools = tuple(tool.model_dump() for tool in case.tools)
        return cls((Turn(role="user", content=case.request),), tools, case.answer, case.never)

    def is_broken_by(self, answer: str) -> bool:
        """Return whether an answer holds a text that none may."""
        return any(text.casefold() in answer.casefold() for text in self.never)


# What a gate asks.
Asked = LabelledRow | Case


@dataclass(frozen=True)
class Contestant:
    """One side of a gate: a model and how it is asked.

    Attributes:
        name: A candidate's id or a generic model's name.
        model: As its upstream names it.
        version: Of the model; empty: Triton's choice.
        prompt: A specialist's system prompt, or a generic model's with `{tools}` in it.
        schema: JSON Schema that a specialist's answers are held to where a request offers no functions; empty: none.
        specialist: Whether it does without function documents.
        function_call: Whether the task's answers are function calls.
        max_tokens: Longest answer.
        price: Of its tokens.
        upstream: Where it runs, as the bundle names it.
        url: Of an upstream that speaks the OpenAI protocol; None: Triton.
    """

    name: str
    model: str
    version: str
    prompt: str
    schema: str
    specialist: bool
    function_call: bool
    max_tokens: int
    price: Price
    upstream: str = TRITON
    url: str | None = None

    def question(self, asked: Asked) -> Prompt:
        """Return what this side is asked, as the router would ask it."""
        turns = [Message(role=turn.role, content=turn.content) for turn in asked.messages if turn.role != "system"]
        tools = [tool_of(tool) for tool in asked.tools]
        sampling: dict[str, Any] = {"temperature": 0, "max_tokens": self.max_tokens}
        schema = offered_schema(tools, self.function_call)
        if self.specialist:
            messages = specialist_messages(self.prompt, turns)
            schema = schema or self.schema
        else:
            own = [Message(role="system", content=asked.system)] if asked.system else []
            messages = generic_messages(self.prompt, [*own, *turns], tools)
        if schema:
            sampling["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": msgspec.json.decode(schema)},
            }
        return Prompt(self.model, self.version, messages, sampling, self.upstream, self.url)


def incumbent(bundle: Bundle, task: Task, deployment: Deployment | None) -> Contestant:
    """Return who answers a task's requests now: its live specialist, no canary, or the cheapest generic model.

    Raises:
        FailedPrecondition: There is neither.
    """
    if deployment is not None:
        deployment = deployment.proven
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
            price=task.specialist_price,
        )
    tiers = ("small", "large", "frontier")
    generic = sorted((tiers.index(m.tier), name) for name, m in bundle.models.items() if m.tier in tiers)
    if not generic:
        raise FailedPrecondition("the bundle has no generic model for a candidate to be compared with")
    name = generic[0][1]
    model = bundle.models[name]
    return Contestant(
        name=name,
        model=model.served_as,
        version="",
        prompt=task.generic_prompt,
        schema="",
        specialist=False,
        function_call=task.answers == "function-call",
        max_tokens=min(task.max_tokens, model.max_tokens),
        price=model.price,
        upstream=model.upstream,
        url=bundle.upstream(model.upstream).url,
    )


def highest(levels: Iterable[str]) -> Sensitivity:
    """Return the highest of some levels, public when there is none."""
    return max((Sensitivity(level) for level in levels), key=lambda s: s.level, default=Sensitivity.PUBLIC)
