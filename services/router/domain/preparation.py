"""Data-prep: text in one form, its language, and no more of it than the task's budget."""

import re
import unicodedata
from collections.abc import Sequence

import msgspec
import py3langid

from schemas.events import Message
from services.router.domain.errors import InvalidField

# A chat template wraps each message in about this many tokens.
MESSAGE_TOKENS = 4
BYTES_PER_TOKEN = 4
# Enough to tell a language by; more only costs time.
LANGUAGE_CHARACTERS = 1000

# What a model sees and a person does not: control characters, zero-width and bidirectional marks, soft hyphens, tags.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]"
    # Joiners belong in emoji and in scripts such as Persian, and hide in words of ASCII.
    "|(?<![^\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f])"
)
_LINE_ENDS = re.compile("\r\n?|[\u2028\u2029]")
_SPACES = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_TRAILING = re.compile(r"[ \t]+$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n{3,}")


def normalise(text: str) -> str:
    """Return a text in NFC, without invisible characters, with ordinary spaces and at most one blank line in a row.

    Indentation is kept: it carries meaning in code.
    """
    if not text.isascii() or not text.isprintable():
        text = _INVISIBLE.sub("", _LINE_ENDS.sub("\n", text))
        text = unicodedata.normalize("NFC", _SPACES.sub(" ", text))
        text = _BLANK_LINES.sub("\n\n", _TRAILING.sub("", text))
    return text.strip()


def normalise_messages(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Return messages with their contents in one form.

    Raises:
        InvalidField: A user's message has no text.
    """
    normalised = tuple(msgspec.structs.replace(message, content=normalise(message.content)) for message in messages)
    for i, message in enumerate(normalised):
        if message.role == "user" and not message.content:
            raise InvalidField(f"messages[{i}].content", "has no text; wanted some")
    return normalised


def language_of(text: str) -> str:
    """Return the ISO 639-1 code of the likeliest language of a text (langid.py, Lui and Baldwin 2012)."""
    return str(py3langid.classify(text[:LANGUAGE_CHARACTERS])[0])


def estimated_tokens(message: Message) -> int:
    """Return about how many tokens a message is: the router holds no tokenizer, and models differ in theirs."""
    texts = [message.content, *(call.name + call.arguments for call in message.tool_calls)]
    return MESSAGE_TOKENS + sum(-(-len(text.encode()) // BYTES_PER_TOKEN) for text in texts)


def last_user_turn(messages: Sequence[Message]) -> int:
    """Return the position of the last message of role user; `request.check` saw to it that there is one."""
    return max(i for i, message in enumerate(messages) if message.role == "user")


def cut(messages: Sequence[Message], budget_tokens: int) -> tuple[tuple[Message, ...], int]:
    """Leave out the oldest turns until the rest fits the budget.

    The last user turn and what follows it is never cut, nor are instructions (system, developer). A tool's answer goes
    with the call that it answers.

    Returns:
        What is left, and about how many tokens were left out.

    Raises:
        InvalidField: What may not be cut is over the budget by itself.
    """
    tokens = [estimated_tokens(message) for message in messages]
    total, dropped = sum(tokens), 0
    last = last_user_turn(messages)
    turns = [i for i in range(last) if messages[i].role not in ("system", "developer")]
    left_out: set[int] = set()
    for i in turns:
        if total - dropped <= budget_tokens and not (left_out and messages[i].role == "tool"):
            break
        left_out.add(i)
        dropped += tokens[i]
    if total - dropped > budget_tokens:
        raise InvalidField(
            "messages",
            f"instructions and last user turn are about {total - dropped} tokens; wanted at most {budget_tokens}",
        )
    return tuple(message for i, message in enumerate(messages) if i not in left_out), dropped
