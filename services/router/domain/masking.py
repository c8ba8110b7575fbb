"""The texts of a request on their way to governance and back, and what it masked in them."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import msgspec

from schemas.events import Message, Tool
from schemas.masks import MOST_TAKEN, PLACEHOLDER
from services.router.domain.knowledge import Knowledge, Mask
from services.router.domain.request import check_parameters, numbered_texts


def texts_of(messages: Sequence[Message], tools: Sequence[Tool]) -> list[str]:
    """Return every text that a model could see, in order."""
    return [text for _, text in numbered_texts(messages, tools)]


def instructions_among(messages: Sequence[Message], tools: Sequence[Tool]) -> list[int]:
    """Return which of `texts_of` the same are the application's own word to the model, by position."""
    return [
        position
        for position, ((kind, i, _), _) in enumerate(numbered_texts(messages, tools))
        if kind in ("description", "parameters") or (kind == "message" and messages[i].role in ("system", "developer"))
    ]


def with_texts(
    messages: Sequence[Message], tools: Sequence[Tool], texts: Sequence[str]
) -> tuple[tuple[Message, ...], tuple[Tool, ...]]:
    """Return messages and tools with the texts that governance answered for `texts_of` them.

    Raises:
        InvalidField: A mask in a tool's parameters left no JSON Schema.
        ValueError: There are more or fewer texts than were asked about.
    """
    places = [place for place, _ in numbered_texts(messages, tools)]
    masked = dict(zip(places, texts, strict=True))
    return (
        tuple(_message(message, i, masked) for i, message in enumerate(messages)),
        tuple(_tool(tool, i, masked) for i, tool in enumerate(tools)),
    )


def without_texts(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Return messages of which only the roles are left: what may be recorded of text that nobody has masked."""
    return tuple(Message(role=message.role) for message in messages)


class Vault:
    """The names of all that is masked in one request and its answer, and by them the caller's own values.

    It lives as long as the request, and no record or log has any of it. Governance numbers the values of each call by
    itself; here a value has one number throughout, and no number stands for two values of this request.
    """

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], str] = {}
        self._own: dict[str, str] = {}
        self._last: dict[str, int] = defaultdict(int)

    def keep(self, masks: Sequence[Mask], messages: Sequence[Message], tools: Sequence[Tool]) -> None:
        """Take in what governance masked in a request, which is given as it may be seen."""
        masked = {mask.placeholder: mask for mask in masks}
        for (kind_of_text, _, _), text in numbered_texts(messages, tools):
            for match in PLACEHOLDER.finditer(text):
                self._use(match[1], int(match[2]))
                mask = masked.pop(match[0], None)
                if mask is not None:
                    self._names[match[1], mask.value] = match[0]
                    is_json = kind_of_text in ("call", "parameters")
                    self._own[match[0]] = _unescaped(mask.text) if is_json else mask.text

    def apart(self, knowledge: Knowledge) -> Knowledge:
        """Return knowledge whose masks, of other requests' values, have numbers that this request does not use.

        Whose masks were equal before still are, be they of two documents or turns: what they stood for is gone.
        """
        taken = dict(self._last)

        def name(match: re.Match[str]) -> str:
            if int(match[2]) > MOST_TAKEN:
                return match[0]
            number = int(match[2]) + taken.get(match[1], 0)
            self._use(match[1], number)
            return f"<{match[1]}_{number}>"

        def renumbered(text: str) -> str:
            return PLACEHOLDER.sub(name, text)

        passages = [
            replace(passage, title=renumbered(passage.title), text=renumbered(passage.text))
            for passage in knowledge.passages
        ]
        turns = []
        for turn in knowledge.turns:
            calls = [
                msgspec.structs.replace(call, arguments=renumbered(call.arguments)) for call in turn.message.tool_calls
            ]
            content = renumbered(turn.message.content)
            turns.append(
                replace(turn, message=msgspec.structs.replace(turn.message, content=content, tool_calls=tuple(calls)))
            )
        return Knowledge(tuple(passages), tuple(turns))

    def named(self, text: str, masks: Sequence[Mask]) -> str:
        """Return a part of the answer, masked by governance, with the names that its values have in this request."""
        if not masks:
            return text
        names = {mask.placeholder: self._name(mask) for mask in masks}
        return PLACEHOLDER.sub(lambda match: names.get(match[0], match[0]), text)

    def restored(self, text: str, in_json: bool) -> str:
        """Return a part of the answer with the caller's own values in place of their names.

        Args:
            text: The part, masked. What was masked in the answer alone is not the caller's, and stays masked.
            in_json: Whether names stand in the strings of a JSON text.
        """
        if not self._own:
            return text

        def own(match: re.Match[str]) -> str:
            value = self._own.get(match[0])
            if value is None:
                return match[0]
            return msgspec.json.encode(value).decode()[1:-1] if in_json else value

        return PLACEHOLDER.sub(own, text)

    def _name(self, mask: Mask) -> str:
        match = PLACEHOLDER.fullmatch(mask.placeholder)
        assert match is not None  # so says its proto
        key = match[1], mask.value
        if key not in self._names:
            self._last[match[1]] += 1
            self._names[key] = f"<{match[1]}_{self._last[match[1]]}>"
        return self._names[key]

    def _use(self, kind: str, number: int) -> None:
        if number <= MOST_TAKEN:
            self._last[kind] = max(self._last[kind], number)


def _unescaped(text: str) -> str:
    """Return what a piece of a JSON string says; a piece of anything else says itself."""
    try:
        return msgspec.json.decode(f'"{text}"', type=str)
    except msgspec.DecodeError:
        return text


def _message(message: Message, i: int, masked: dict[tuple[str, int, int], str]) -> Message:
    calls = tuple(
        msgspec.structs.replace(call, arguments=_still_json(masked.get(("call", i, j), call.arguments)))
        for j, call in enumerate(message.tool_calls)
    )
    return msgspec.structs.replace(message, content=masked.get(("message", i, 0), ""), tool_calls=calls)


def _tool(tool: Tool, i: int, masked: dict[tuple[str, int, int], str]) -> Tool:
    parameters = masked.get(("parameters", i, 0), "")
    if parameters != tool.parameters:
        check_parameters(parameters, f"tools[{i}].parameters")
    return msgspec.structs.replace(tool, description=masked.get(("description", i, 0), ""), parameters=parameters)


def _still_json(arguments: str) -> str:
    """A mask over a JSON number leaves no JSON; such arguments are shown as one string."""
    try:
        msgspec.json.decode(arguments)
    except msgspec.DecodeError:
        return msgspec.json.encode(arguments).decode()
    return arguments
