"""What was said before in a conversation."""

import re
from bisect import insort
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from schemas.events import Interaction, Message, Sensitivity
from services.context.domain.passages import CUT, beginning, estimated_tokens

MESSAGE_TOKENS = 4  # what a chat template adds around a message, about
# What counts as asked again: so soon after, with so many words in common, and that share of all words of both.
ASKED_AGAIN_WITHIN = timedelta(minutes=10)
ASKED_AGAIN_WORDS = 3
ASKED_AGAIN_SHARE = 0.6
# What a condensed turn keeps of what was asked, of what was called and of what was answered.
CONDENSED_TOKENS = 24
_ANSWERED = frozenset({"stop", "length", "tool_calls"})


@dataclass(frozen=True, order=True)
class Turn:
    """One interaction of a conversation: what was asked, with the results of tools, and what was answered.

    Attributes:
        received_at: When it was asked; turns are in this order.
        request_id: Of the interaction.
        messages: From the user's last message to the answer.
        sensitivity: Of the interaction.
        is_condensed: Its messages are beginnings of what was said.
    """

    received_at: datetime
    request_id: str
    messages: tuple[Message, ...] = field(compare=False)
    sensitivity: Sensitivity = field(compare=False)
    is_condensed: bool = field(default=False, compare=False)

    @property
    def tokens(self) -> int:
        """What its messages cost, by estimate."""
        return sum(map(message_tokens, self.messages))


@dataclass(frozen=True)
class Rule:
    """What may be remembered of a tenant's conversations.

    Attributes:
        age: How old a turn may be.
        sensitivity: What it may be at most.
    """

    age: timedelta
    sensitivity: Sensitivity

    def allows(self, turn: Turn, now: datetime) -> bool:
        """Return whether a turn may be remembered at a time."""
        return turn.sensitivity.level <= self.sensitivity.level and now - turn.received_at < self.age


def condensed(turn: Turn) -> Turn:
    """Return a turn with the beginnings of what was asked, called and answered; each place that was cut shows `[…]`.

    Calls become text, for arguments that are cut are no JSON any more, and results of tools are left out. A turn that
    this makes no shorter is returned as it is.
    """
    if turn.is_condensed or len(turn.messages) == 1:
        return turn
    question, *between, answer = turn.messages
    calls = "; ".join(f"{call.name}({call.arguments})" for each in turn.messages for call in each.tool_calls)
    answered = (
        f"[called {beginning(calls, CONDENSED_TOKENS)}]" if calls else "",
        CUT.strip() if between else "",
        beginning(answer.content, CONDENSED_TOKENS),
    )
    asked = Message(role=question.role, content=beginning(question.content, CONDENSED_TOKENS))
    told = Message(role="assistant", content=" ".join(filter(None, answered)))
    shorter = replace(turn, messages=(asked, told), is_condensed=True)
    return shorter if shorter.tokens < turn.tokens else turn


def message_tokens(message: Message) -> int:
    """Return about what a message costs of a budget."""
    called = sum(estimated_tokens(call.name + call.arguments) for call in message.tool_calls)
    return MESSAGE_TOKENS + estimated_tokens(message.content) + called


def asked_again(turns: Sequence[Turn], query: str, now: datetime) -> str:
    """Return the id of the last interaction if it was just now and the query asks the same again; empty if not.

    The same is what has most of its words in common (Jaccard 1901) and no word replaced: all words of one are in the
    other, whatever their order, case and what stands between.

    Args:
        turns: Oldest first.
        query: What the user says now.
        now: The time.
    """
    if not turns or now - turns[-1].received_at > ASKED_AGAIN_WITHIN:
        return ""
    before = next((message.content for message in turns[-1].messages if message.role == "user"), "")
    said, now_said = (set(re.findall(r"\w+", text.casefold())) for text in (before, query))
    shared, all_words = len(said & now_said), len(said | now_said)
    none_replaced = shared == min(len(said), len(now_said))
    is_same = none_replaced and shared >= ASKED_AGAIN_WORDS and shared / all_words >= ASKED_AGAIN_SHARE
    return turns[-1].request_id if is_same else ""


@dataclass(frozen=True)
class Remembered:
    """What a memory holds.

    Attributes:
        conversations: Tenant, conversation id and turns, those used last at the end.
        forgotten: Tenant, conversation id and until when it is forgotten.
        erased: Requests whose turns are not to be kept.
    """

    conversations: list[tuple[str, str, list[Turn]]]
    forgotten: list[tuple[str, str, datetime]]
    erased: list[str]


class Memory:
    """The newest turns of the conversations that were used last, in bounded space, as tenants' rules allow it."""

    def __init__(self, turns: int, condensed_turns: int, conversations: int, turn_tokens: int) -> None:
        """Remember nothing yet, and of nobody until there are rules.

        Args:
            turns: Kept whole of a conversation, the newest.
            condensed_turns: Kept condensed before those.
            conversations: Kept, those used last.
            turn_tokens: A longer turn is not kept.
        """
        self._turns = turns
        self._condensed_turns = condensed_turns
        self._limit = conversations
        self._turn_tokens = turn_tokens
        self._rules: Mapping[str, Rule] = {}
        self._conversations: OrderedDict[tuple[str, str], list[Turn]] = OrderedDict()
        # Until when each is forgotten: at a start, what was said may be read after it was to be forgotten.
        self._forgotten: dict[tuple[str, str], datetime] = {}
        self._erased: set[str] = set()

    def rule(self, rules: Mapping[str, Rule], now: datetime) -> None:
        """Put rules in force, by tenant, and drop what they do not allow."""
        self._rules = rules
        self.drop_old(now)

    def drop_old(self, now: datetime) -> None:
        """Drop what the rules do not allow any more, and what was erased."""
        for key, turns in list(self._conversations.items()):
            self._keep(key, self._allowed(key[0], turns, now))

    def remember(self, interaction: Interaction, now: datetime) -> None:
        """Keep an interaction if it may be, belongs to a conversation and was answered. It may come late, or again."""
        if not interaction.conversation_id or interaction.phase != "finished":
            return
        if interaction.finish_reason not in _ANSWERED:
            return
        turn = _turn(interaction)
        if turn.tokens > self._turn_tokens or not self._allowed(interaction.tenant, [turn], now):
            return
        key = interaction.tenant, interaction.conversation_id
        if key in self._forgotten and interaction.received_at <= self._forgotten[key]:
            return
        # A request that brings the results of tools repeats the turn that called them, and takes its place. Turns come
        # from several partitions, so either may come first.
        others = [each for each in self._conversations.get(key, []) if each.request_id != turn.request_id]
        if any(_continues(each, turn) for each in others):
            return
        kept = [each for each in others if not _continues(turn, each)]
        insort(kept, turn)
        kept = kept[-self._turns - self._condensed_turns :]
        self._keep(key, [*map(condensed, kept[: -self._turns]), *kept[-self._turns :]])
        self._conversations.move_to_end(key)
        if len(self._conversations) > self._limit:
            self._conversations.popitem(last=False)

    def recall(self, tenant: str, conversation_id: str, max_sensitivity: Sensitivity, now: datetime) -> list[Turn]:
        """Return the turns that may be seen, oldest first; those before the newest are condensed."""
        key = tenant, conversation_id
        if key not in self._conversations:
            return []
        self._conversations.move_to_end(key)
        turns = self._allowed(tenant, self._conversations[key], now)
        return [turn for turn in turns if turn.sensitivity.level <= max_sensitivity.level]

    def forget(self, tenant: str, conversation_id: str, until: datetime) -> None:
        """Drop what was said in a conversation until then, also what comes to be known only later."""
        key = tenant, conversation_id
        self._forgotten[key] = max(until, self._forgotten.get(key, until))
        self._keep(key, [turn for turn in self._conversations.get(key, []) if turn.received_at > self._forgotten[key]])

    def erase(self, request_id: str) -> None:
        """Never return the turn of a request again, also if it comes to be known only later; `drop_old` drops it."""
        self._erased.add(request_id)

    def dump(self) -> Remembered:
        """Return all that is remembered."""
        return Remembered(
            [(tenant, name, self._kept(turns)) for (tenant, name), turns in self._conversations.items()],
            [(tenant, name, until) for (tenant, name), until in self._forgotten.items()],
            sorted(self._erased),
        )

    def restore(self, remembered: Remembered, now: datetime) -> None:
        """Put what another memory held into this one, as far as the rules in force allow it."""
        self._forgotten = {(tenant, name): until for tenant, name, until in remembered.forgotten}
        self._erased = set(remembered.erased)
        self._conversations = OrderedDict(((tenant, name), turns) for tenant, name, turns in remembered.conversations)
        self.drop_old(now)

    def _allowed(self, tenant: str, turns: Sequence[Turn], now: datetime) -> list[Turn]:
        rule = self._rules.get(tenant)
        return [turn for turn in self._kept(turns) if rule.allows(turn, now)] if rule else []

    def _kept(self, turns: Sequence[Turn]) -> list[Turn]:
        return [turn for turn in turns if turn.request_id not in self._erased]

    def _keep(self, key: tuple[str, str], turns: list[Turn]) -> None:
        if turns:
            self._conversations[key] = turns
        else:
            self._conversations.pop(key, None)


def _continues(turn: Turn, earlier: Turn) -> bool:
    return turn.messages[: len(earlier.messages)] == earlier.messages


def _turn(interaction: Interaction) -> Turn:
    asked = [message for message in interaction.messages if message.role not in ("system", "developer")]
    # Applications may send what was said before along with each request: only what is new is a turn of its own.
    last = max((i for i, message in enumerate(asked) if message.role == "user"), default=0)
    # The text of an answer that calls functions is the calls.
    content = "" if interaction.tool_calls else interaction.answer
    answer = Message(role="assistant", content=content, tool_calls=interaction.tool_calls)
    return Turn(interaction.received_at, interaction.request_id, (*asked[last:], answer), interaction.sensitivity)
