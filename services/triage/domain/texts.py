"""What was asked and what was answered, as texts."""

import json
from collections.abc import Iterable

from schemas.events import Interaction, Message

# Of a question: enough to judge its kind by.
QUESTION_CHARACTERS = 1000
# Of a conversation: enough to tell it from another.
CONVERSATION_CHARACTERS = 4000


def question_of(messages: Iterable[Message]) -> str:
    """Return the beginning of what a user said last."""
    said = [message.content for message in messages if message.role == "user"]
    return said[-1][:QUESTION_CHARACTERS] if said else ""


def conversation_of(messages: Iterable[Message]) -> str:
    """Return all that was said but for what the application itself says, as far as it is looked at."""
    said = (message.content for message in messages if message.role not in ("system", "developer"))
    return "\n".join(said)[-CONVERSATION_CHARACTERS:]


def answer_of(interaction: Interaction) -> str:
    """Return the answer as text: its own, or the first tool call as JSON where there is only that."""
    if interaction.answer or not interaction.tool_calls:
        return interaction.answer
    call = interaction.tool_calls[0]
    return f'{{"name": {json.dumps(call.name)}, "arguments": {call.arguments or "{}"}}}'


def called(answer: str) -> str:
    """Return the function that an answer calls; empty where it calls none."""
    try:
        call = json.loads(answer)
    except (ValueError, RecursionError):
        return ""
    name = call.get("name") if isinstance(call, dict) else None
    return name if isinstance(name, str) else ""
