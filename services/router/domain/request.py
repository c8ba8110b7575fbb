"""What an application asks, and which of it is refused before anything is decided about it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Self
from urllib.parse import unquote
from uuid import UUID

import jsonschema_rs
import msgspec

from schemas.events import Message, Tool
from services.router.domain.errors import InvalidField

# Everything that a request says, in UTF-8. The record of it must fit a Kafka record with room to spare.
MAX_REQUEST_BYTES = 1024 * 1024
MAX_SCHEMA_BYTES = 64 * 1024
# As many texts as governance takes in one call.
MAX_TEXTS = 1024
MAX_SEED = 2**32 - 1
_DRAFTS = (
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "http://json-schema.org/draft-07/schema",
    "http://json-schema.org/draft-06/schema",
    "http://json-schema.org/draft-04/schema",
)


@dataclass(frozen=True)
class Sampling:
    """How the answer is drawn.

    Attributes:
        temperature: 0 for the likeliest answer.
        max_tokens: Longest answer; 0 for the smaller of the task's and the model's limit, which nothing lifts.
        stop: Texts before which the answer ends.
        seed: From 0 to `MAX_SEED`.
        top_p: Share of the likeliest tokens that are drawn from; 1 for all.
        presence_penalty: From -2 to 2: what a token loses for being there already.
        frequency_penalty: From -2 to 2: what it loses for each time it is.
        response_schema: JSON Schema that the answer must obey; empty for free text.
        logprobs: Whether the answer's tokens are wanted too.
    """

    temperature: float = 0.0
    max_tokens: int = 0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    top_p: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    response_schema: str = ""
    logprobs: bool = False


@dataclass(frozen=True)
class Request:
    """What an application asks. Empty `task` and `model` leave the choice to the router."""

    messages: tuple[Message, ...]
    task: str = ""
    model: str = ""
    tools: tuple[Tool, ...] = ()
    sampling: Sampling = Sampling()
    conversation_id: str = ""
    user: str = ""


@dataclass(frozen=True)
class Feedback:
    """What an application has to say of an earlier answer. `kind` is rating, edit, correct_answer or outcome."""

    request_id: str
    kind: str
    rating: float | None = None
    text: str = ""
    comment: str = ""
    user: str = ""

    @classmethod
    def of(cls, request_id: str, kind: str, value: Any, comment: str, user: str) -> Self:
        """Return what is said by one value: a rating is a number, everything else a text."""
        said = {"rating": value} if kind == "rating" else {"text": value}
        return cls(request_id, kind, **said, comment=comment, user=user)


def check(request: Request) -> None:
    """Refuse a request that no model could be asked.

    Raises:
        InvalidField: It names the field and what was wanted.
    """
    if not any(message.role == "user" for message in request.messages):
        raise InvalidField("messages", "wanted at least one of role user")
    texts = [text for _, text in numbered_texts(request.messages, request.tools)]
    size = sum(len(text.encode()) for text in texts)
    if size > MAX_REQUEST_BYTES:
        raise InvalidField("messages", f"{size} bytes with the tools; wanted at most {MAX_REQUEST_BYTES}")
    for i, message in enumerate(request.messages):
        for j, call in enumerate(message.tool_calls):
            _json_object(call.arguments, f"messages[{i}].tool_calls[{j}].arguments")
    names: set[str] = set()
    for i, tool in enumerate(request.tools):
        check_parameters(tool.parameters, f"tools[{i}].parameters")
        if tool.name in names:
            raise InvalidField(f"tools[{i}].name", f"{tool.name!r} is offered twice; wanted each once")
        names.add(tool.name)
    if len(texts) > MAX_TEXTS:
        raise InvalidField("messages", f"{len(texts)} texts with tool calls and tools; wanted at most {MAX_TEXTS}")
    if request.sampling.seed is not None and not 0 <= request.sampling.seed <= MAX_SEED:
        raise InvalidField("seed", f"{request.sampling.seed}; wanted 0 to {MAX_SEED}")
    if request.sampling.response_schema:
        if request.tools:
            raise InvalidField("response_schema", "an answer to a request with tools is a call; wanted one of the two")
        _check_schema(request.sampling.response_schema, "response_schema")


def check_parameters(parameters: str, field: str) -> None:
    """Refuse a tool's parameters that are no JSON Schema of an object; empty stands for a tool without any.

    Raises:
        InvalidField: It names the field and what was wanted.
    """
    if not parameters:
        return
    schema = _json_object(parameters, field)
    properties = schema.get("properties", {})
    if not isinstance(properties, dict):
        raise InvalidField(f"{field}.properties", "wanted a JSON object")
    for name, value in properties.items():
        if not isinstance(value, dict):
            raise InvalidField(f"{field}.properties.{name}", "wanted a JSON Schema object")
        if not isinstance(value.get("enum", []), list):
            raise InvalidField(f"{field}.properties.{name}.enum", "wanted a list")
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise InvalidField(f"{field}.required", "wanted a list of names")


def _check_schema(text: str, field: str) -> None:
    """Refuse what is no JSON Schema (of the draft that its `$schema` says, else 2020-12), or refers beyond itself.

    It is held to the schema of schemas and not compiled: that can take seconds, for patterns above all.

    Raises:
        InvalidField: It names the place in the schema and what is wrong there.
    """
    if len(text.encode()) > MAX_SCHEMA_BYTES:
        raise InvalidField(field, f"wanted at most {MAX_SCHEMA_BYTES} bytes")
    schema = _json_object(text, field)
    draft = schema.get("$schema", _DRAFTS[0])
    if not isinstance(draft, str) or draft.rstrip("#") not in _DRAFTS:
        raise InvalidField(f"{field}.$schema", f"wanted one of {', '.join(_DRAFTS)}")
    try:
        wrong = next(_schema_of_schemas(draft.rstrip("#")).iter_errors(schema), None)
        if wrong is not None:
            place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in wrong.instance_path)
            raise InvalidField(f"{field}{place}", f"is no JSON Schema: {wrong.message}")
        for reference in _references(schema):
            _check_reference(reference, schema, field)
    except (ValueError, RecursionError) as error:
        raise InvalidField(field, f"is no JSON Schema: {error}") from error


@cache
def _schema_of_schemas(draft: str) -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for({"$schema": draft, "$ref": draft})


def _references(node: Any) -> Iterator[str]:
    children: Iterable[Any] = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    if isinstance(node, dict) and isinstance(node.get("$ref"), str):
        yield node["$ref"]
    for child in children:
        yield from _references(child)


def _check_reference(reference: str, schema: Any, field: str) -> None:
    """Refuse a reference that is no JSON Pointer (RFC 6901) to a place in its schema."""
    start, *steps = reference.split("/")
    node = schema
    for step in steps:
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(node, list) and name.isdecimal() and int(name) < len(node):
            node = node[int(name)]
        elif isinstance(node, dict) and name in node:
            node = node[name]
        else:
            start = ""
            break
    if start != "#":
        raise InvalidField(field, f"refers to {reference!r}; wanted `#`, or `#/` and a path to a place in it")


def check_feedback(feedback: Feedback) -> None:
    """Refuse feedback on what cannot be an answer of ours.

    Raises:
        InvalidField: `request_id` is not a UUIDv7.
    """
    try:
        version = UUID(feedback.request_id).version
    except ValueError:
        version = None
    if version != 7:
        raise InvalidField("request_id", "wanted the id of an answer, a UUIDv7")


def _json_object(text: str, field: str) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidField(field, f"wanted a JSON object: {error}") from error
    if not isinstance(value, dict):
        raise InvalidField(field, f"wanted a JSON object, is {type(value).__name__}")
    return value


def numbered_texts(messages: Sequence[Message], tools: Sequence[Tool]) -> list[tuple[tuple[str, int, int], str]]:
    """Return every text that a model could see, in order, with its place: what it is of, and its two numbers.

    Not the names of functions: the edges take identifiers alone, which hold no personal data and no sentence.

    The places are `message` (i), `call` (i, j), `description` (i) and `parameters` (i). Empty texts are left out.
    """
    places: list[tuple[tuple[str, int, int], str]] = []
    for i, message in enumerate(messages):
        places.append((("message", i, 0), message.content))
        places += [(("call", i, j), call.arguments) for j, call in enumerate(message.tool_calls)]
    for i, tool in enumerate(tools):
        places += [(("description", i, 0), tool.description), (("parameters", i, 0), tool.parameters)]
    return [(place, text) for place, text in places if text]
