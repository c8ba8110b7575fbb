"""Data-prep: text in one form, its language, and no more of it than the task's budget."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import py3langid

from schemas.events import Cut, Message
from services.router.domain.errors import InvalidField

# A chat template wraps each message in about this many tokens.
MESSAGE_TOKENS = 4
BYTES_PER_TOKEN = 4
# What stands in a text where its middle was left out, and how short none becomes.
GAP = "\n[...]\n"
FEWEST_TOKENS_LEFT = 16
# Enough to tell a language by; more only costs time.
LANGUAGE_CHARACTERS = 256

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
    return MESSAGE_TOKENS + sum(map(text_tokens, texts))


def text_tokens(text: str) -> int:
    """Return about how many tokens a text is."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def last_user_turn(messages: Sequence[Message]) -> int:
    """Return the position of the last message of role user; `request.check` saw to it that there is one."""
    return max(i for i, message in enumerate(messages) if message.role == "user")


@dataclass(frozen=True)
class Fitted:
    """Messages that fit a budget, and what was left out of them to that end."""

    messages: tuple[Message, ...]
    cuts: tuple[Cut, ...] = ()


def fit(messages: Sequence[Message], budget_tokens: int, cut: str) -> Fitted:
    """Leave out what a task's `cut` says until the rest fits the budget.

    Raises:
        InvalidField: What may not be left out is over the budget by itself.
    """
    total = sum(map(estimated_tokens, messages))
    if total <= budget_tokens:
        return Fitted(tuple(messages))
    if cut == "oldest-turns":
        return _without_oldest_turns(messages, budget_tokens)
    if cut == "longest-texts":
        return _with_shorter_texts(messages, budget_tokens)
    raise _too_long("messages", total, budget_tokens)


def _without_oldest_turns(messages: Sequence[Message], budget_tokens: int) -> Fitted:
    """Keep instructions (system, developer), the last user turn and what follows it.

    A tool's answer goes with the call that it answers.
    """
    tokens = [estimated_tokens(message) for message in messages]
    total = sum(tokens)
    cuts: list[Cut] = []
    for i in range(last_user_turn(messages)):
        if messages[i].role in ("system", "developer"):
            continue
        if total <= budget_tokens and not (cuts and messages[i].role == "tool"):
            break
        cuts.append(Cut(message=i, start=0, end=len(messages[i].content), tokens=tokens[i]))
        total -= tokens[i]
    if total > budget_tokens:
        raise _too_long("instructions and last user turn", total, budget_tokens)
    left_out = {cut.message for cut in cuts}
    return Fitted(tuple(message for i, message in enumerate(messages) if i not in left_out), tuple(cuts))


def _with_shorter_texts(messages: Sequence[Message], budget_tokens: int) -> Fitted:
    """Shorten the longest texts, but for instructions, to one length that lets all fit, each from its middle."""
    turns = [i for i, message in enumerate(messages) if message.role not in ("system", "developer")]
    lengths = {i: text_tokens(messages[i].content) for i in turns}
    total = sum(map(estimated_tokens, messages))
    room = budget_tokens - (total - sum(lengths.values()))
    limit, left = 0, len(turns)
    for length in sorted(lengths.values()):
        limit = room // left
        if length > limit:
            break
        room -= length
        left -= 1
    if limit < FEWEST_TOKENS_LEFT:
        raise _too_long("instructions and the shortest of the turns", total, budget_tokens)
    fitted, cuts = list(messages), []
    for i in turns:
        if lengths[i] > limit:
            text, start, end = _without_middle(messages[i].content, limit)
            fitted[i] = msgspec.structs.replace(messages[i], content=text)
            cuts.append(Cut(message=i, start=start, end=end, tokens=lengths[i] - text_tokens(text)))
    return Fitted(tuple(fitted), tuple(cuts))


def _without_middle(text: str, tokens: int) -> tuple[str, int, int]:
    """Return a text of so many tokens, beginning and end of the one given, and what of that was left out."""
    half = (tokens * BYTES_PER_TOKEN - len(GAP.encode())) // 2
    encoded = text.encode()
    head, tail = encoded[:half].decode(errors="ignore"), encoded[-half:].decode(errors="ignore")
    return f"{head}{GAP}{tail}", len(head), len(text) - len(tail)


def _too_long(what: str, tokens: int, budget_tokens: int) -> InvalidField:
    return InvalidField("messages", f"{what} are about {tokens} tokens; wanted at most {budget_tokens}")
