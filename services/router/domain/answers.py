"""What the chosen model is asked, and what its text means."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from schemas.bundle import Guardrail, Task
from schemas.events import WRONG_FORM, Message, Tool, ToolCall
from schemas.prompts import Prompt, Token, generic_messages, offered_schema, specialist_messages
from services.router.domain.catalogue import Candidate
from services.router.domain.knowledge import Knowledge
from services.router.domain.request import Sampling

# What shapes the distribution that tokens are drawn from, with the values that leave it as it is.
_NEUTRAL = {"top_p": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}


@dataclass(frozen=True)
class Asked:
    """What governance must know of an answer beside its text; what a tenant's guardrails have no use for is empty.

    Attributes:
        instructions: What the model is told beside the turns, but for passages and function documents.
        schema: JSON Schema that the answer must obey.
    """

    instructions: tuple[str, ...] = ()
    schema: str = ""


def asked(
    candidate: Candidate,
    task: Task,
    messages: Sequence[Message],
    tools: Sequence[Tool],
    sampling: Sampling,
    guardrails: Sequence[Guardrail],
) -> Asked:
    """Return what governance must know of a candidate's answer, by what a tenant's guardrails on answers look for."""
    detected = {kind for guardrail in guardrails for kind in guardrail.detect}
    return Asked(
        _instructions(candidate, task, messages) if "leak" in detected else (),
        _schema(candidate, task, tools, sampling) if "format" in detected else "",
    )


def _instructions(candidate: Candidate, task: Task, messages: Sequence[Message]) -> tuple[str, ...]:
    if candidate.deployment is not None:
        return (candidate.deployment.system_prompt,)
    own = (message.content for message in messages if message.role in ("system", "developer"))
    return (task.generic_prompt, *filter(None, own))


def _schema(candidate: Candidate, task: Task, tools: Sequence[Tool], sampling: Sampling) -> str:
    wanted = sampling.response_schema or offered_schema(tools, task.answers == "function-call")
    return wanted or (candidate.deployment.response_schema if candidate.deployment else "")


def prompt(
    candidate: Candidate,
    task: Task,
    messages: Sequence[Message],
    tools: Sequence[Tool],
    knowledge: Knowledge,
    sampling: Sampling,
) -> Prompt:
    """Return what a candidate is asked: the task's instructions, what context knows, memory, then the request."""
    turns = [*(turn.message for turn in knowledge.turns), *messages]
    schema = _schema(candidate, task, tools, sampling)
    if candidate.deployment is None:
        chat = generic_messages(task.generic_prompt, turns, tools)
    else:
        chat = specialist_messages(candidate.deployment.system_prompt, turns)
    if knowledge.passages:
        passages = "\n\n".join(f"[{passage.title}]\n{passage.text}" for passage in knowledge.passages)
        system = {**chat[0], "content": f"{chat[0]['content']}\n\nWhat is known:\n\n{passages}"}
        chat = [system, *chat[1:]]
    limit = min(candidate.max_tokens, task.max_tokens)
    asked: dict[str, Any] = {
        "temperature": sampling.temperature,
        "max_tokens": min(sampling.max_tokens, limit) if sampling.max_tokens else limit,
    }
    if sampling.stop:
        asked["stop"] = list(sampling.stop)
    if sampling.seed is not None:
        asked["seed"] = sampling.seed
    asked |= {name: value for name, neutral in _NEUTRAL.items() if (value := getattr(sampling, name)) != neutral}
    if sampling.logprobs:
        asked["logprobs"] = True
    if schema:
        asked["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": msgspec.json.decode(schema)},
        }
    upstream = candidate.upstream_name, candidate.upstream.url
    return Prompt(candidate.served_as, candidate.version, chat, asked, *upstream)


def doubt(
    candidate: Candidate,
    task: Task,
    tools: Sequence[Tool],
    sampling: Sampling,
    answer: str,
    chance: float | None,
) -> str:
    """Return why an answer, right with this chance, is not good enough for its task's cascade; empty: it is."""
    assert task.cascade is not None
    if _schema(candidate, task, tools, sampling) and not _is_json(answer):
        return WRONG_FORM
    least = task.cascade.chance
    if least is not None and chance is not None and chance < least:
        return f"right with a chance of {chance:.2f}, below {least:g}"
    return ""


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def tokens_of(answer: str, tokens: Sequence[Token]) -> tuple[Token, ...] | None:
    """Return the tokens that an answer consists of, without those that ended it; None where they say something else."""
    said, end = answer.encode(), 0
    for number, token in enumerate(tokens):
        if end == len(said):
            return tuple(tokens[:number])
        own = token.token.encode() if token.bytes is None else bytes(token.bytes)
        if not said.startswith(own, end):
            return None
        end += len(own)
    return tuple(tokens) if end == len(said) else None


def tool_call(answer: str, tools: Sequence[Tool], call_id: str) -> ToolCall | None:
    """Return the call that an answer is, `{"name": ..., "arguments": {...}}` naming an offered tool, if it is one."""
    try:
        value = msgspec.json.decode(answer)
    except (msgspec.DecodeError, RecursionError):
        return None
    if not isinstance(value, dict) or set(value) != {"name", "arguments"} or not isinstance(value["arguments"], dict):
        return None
    if value["name"] not in {tool.name for tool in tools}:
        return None
    return ToolCall(id=call_id, name=value["name"], arguments=msgspec.json.encode(value["arguments"]).decode())
