"""What goes into a model's context: rankings made one, and a budget shared."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from services.context.domain.memory import Turn, condensed
from services.context.domain.passages import Passage

K = TypeVar("K", bound=Hashable)

# Cormack, Clarke and Büttcher, "Reciprocal rank fusion outperforms Condorcet and individual rank learning methods",
# SIGIR 2009. They found 60 to do well, for rankings of hundreds; these are of tens, and the first places tell most.
RANK_CONSTANT = 10

# Part of memory's budget that whole turns may take where not all fit; condensed ones reach further back with the rest.
WHOLE_SHARE = 0.75


def fuse(rankings: Iterable[tuple[float, Sequence[K]]]) -> list[tuple[K, float]]:
    """Return what was ranked, best first, with its score: the sum of weight / (10 + rank) over rankings."""
    scores: dict[K, float] = defaultdict(float)
    for weight, ranking in rankings:
        for rank, each in enumerate(ranking, 1):
            scores[each] += weight / (RANK_CONSTANT + rank)
    return sorted(scores.items(), key=lambda item: -item[1])


@dataclass(frozen=True)
class Stitched:
    """What fits a budget.

    Attributes:
        passages: Best first.
        turns: Oldest first.
        asked_again: Id of the interaction whose question is asked again; empty: none is.
    """

    passages: tuple[Passage, ...]
    turns: tuple[Turn, ...]
    asked_again: str = ""

    @property
    def tokens(self) -> int:
        """What all of it costs."""
        return sum(passage.tokens for passage in self.passages) + sum(turn.tokens for turn in self.turns)


def share(turns: Sequence[Turn], passages: Sequence[Passage], budget_tokens: int, memory_share: float) -> Stitched:
    """Fill a budget.

    The newest turns come first, up to memory's share: whole, and before those condensed. Passages may have all that is
    left, best first; one that is too long is passed over for the next. What they leave goes to earlier turns.

    Args:
        turns: Oldest first.
        passages: Best first.
        budget_tokens: For all of it.
        memory_share: Part of the budget, 0 to 1.
    """
    left = budget_tokens - sum(turn.tokens for turn in _newest(turns, int(budget_tokens * memory_share)))
    chosen = []
    for passage in passages:
        if passage.tokens <= left:
            chosen.append(passage)
            left -= passage.tokens
    spent = sum(passage.tokens for passage in chosen)
    return Stitched(tuple(chosen), tuple(_newest(turns, budget_tokens - spent)))


def _newest(turns: Sequence[Turn], budget_tokens: int) -> list[Turn]:
    """Return the newest turns that fit, oldest first, without a gap: whole, and condensed where not all fit whole."""
    if sum(turn.tokens for turn in turns) <= budget_tokens:
        return list(turns)
    kept: list[Turn] = []
    whole_left = int(budget_tokens * WHOLE_SHARE)
    for turn in reversed(turns):
        whole_left -= turn.tokens  # once it is spent, no earlier turn comes whole
        shown = turn if whole_left >= 0 else condensed(turn)
        budget_tokens -= shown.tokens
        if budget_tokens < 0:
            break
        kept.insert(0, shown)
    return kept
