"""Which model answers, and what it is shown.

Sensitivity decides: the highest level of all that the model would see. What would leave no cleared live model is left
out, highest level first, and the record says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas.events import Citation, RouteCandidate, Sensitivity
from services.router.domain.catalogue import TIERS, Candidate
from services.router.domain.knowledge import NOTHING, Clearance, Knowledge, Passage, Turn


@dataclass(frozen=True)
class Decision:
    """What was decided: by whom a request is answered (nobody: it is refused), at which sensitivity, knowing what.

    `fallbacks` are asked in their order where the chosen one fails or is unsure: cleared, of its tier or a higher one.
    """

    chosen: Candidate | None
    sensitivity: Sensitivity
    candidates: tuple[RouteCandidate, ...]
    policies: tuple[str, ...]
    knowledge: Knowledge
    citations: tuple[Citation, ...]
    fallbacks: tuple[Candidate, ...] = ()


def decide(
    candidates: Sequence[Candidate],
    asked_for: str,
    sensitivity: Sensitivity,
    clearances: Mapping[Sensitivity, Clearance],
    knowledge: Knowledge,
) -> Decision:
    """Choose the first cleared candidate, or the one asked for by name if it is cleared.

    Args:
        candidates: Live models, cheapest first.
        asked_for: Name of a candidate, or empty.
        sensitivity: Of the request by itself.
        clearances: What governance said of that level and those above it; a level it did not speak of clears nothing.
        knowledge: What context would add.
    """
    eligible = [candidate for candidate in candidates if asked_for in ("", candidate.name)]
    levels = sorted({sensitivity, *_levels_above(sensitivity, knowledge)}, key=lambda level: -level.level)
    for level in levels:
        chosen = next((c for c in eligible if c.cleared_as in _clearance(clearances, level).models), None)
        if chosen is not None:
            break
    else:
        level, chosen = sensitivity, None
    kept = _up_to(level, knowledge) if chosen else NOTHING
    return Decision(
        chosen=chosen,
        sensitivity=level,
        candidates=tuple(
            _explained(candidate, chosen, asked_for, level, _clearance(clearances, level)) for candidate in candidates
        ),
        policies=_clearance(clearances, level).policies,
        knowledge=kept,
        citations=_citations(knowledge, kept),
        fallbacks=_fallbacks(chosen, eligible, _clearance(clearances, level)),
    )


def _fallbacks(chosen: Candidate | None, eligible: Sequence[Candidate], clearance: Clearance) -> tuple[Candidate, ...]:
    return tuple(
        candidate
        for candidate in eligible
        if chosen is not None
        and candidate is not chosen
        and candidate.cleared_as in clearance.models
        and TIERS.index(candidate.tier) >= TIERS.index(chosen.tier)
    )


def _clearance(clearances: Mapping[Sensitivity, Clearance], level: Sensitivity) -> Clearance:
    return clearances.get(level, Clearance(frozenset()))


def _levels_above(sensitivity: Sensitivity, knowledge: Knowledge) -> set[Sensitivity]:
    items: list[Passage | Turn] = [*knowledge.passages, *knowledge.turns]
    return {item.sensitivity for item in items if item.sensitivity.level > sensitivity.level}


def _up_to(level: Sensitivity, knowledge: Knowledge) -> Knowledge:
    return Knowledge(
        passages=tuple(each for each in knowledge.passages if each.sensitivity.level <= level.level),
        turns=tuple(each for each in knowledge.turns if each.sensitivity.level <= level.level),
    )


def _explained(
    candidate: Candidate, chosen: Candidate | None, asked_for: str, level: Sensitivity, clearance: Clearance
) -> RouteCandidate:
    cleared = candidate.cleared_as in clearance.models
    if not cleared:
        by = ", ".join(clearance.forbidden.get(candidate.cleared_as, ()))
        reason = f"not cleared for {level}: {f'forbidden by {by}' if by else 'no policy permits it'}"
    elif asked_for not in ("", candidate.name):
        reason = "not the model that was asked for"
    elif candidate is not chosen:
        reason = "a cheaper model is cleared"
    else:
        reason = "asked for by name" if asked_for else "cheapest cleared live model"
    return RouteCandidate(
        model=candidate.name,
        model_version=candidate.version,
        tier=candidate.tier,
        cleared=cleared,
        live=True,  # others are not candidates yet
        chosen=candidate is chosen,
        reason=reason,
    )


def _citations(offered: Knowledge, kept: Knowledge) -> tuple[Citation, ...]:
    passages = [
        Citation(
            document_id=passage.document_id,
            sensitivity=passage.sensitivity,
            tokens=passage.tokens,
            score=passage.score,
            dropped=passage not in kept.passages,
        )
        for passage in offered.passages
    ]
    # Memory that was given is counted by the record; memory that was left out would vanish without a line of its own.
    turns = [
        Citation(document_id="conversation", sensitivity=turn.sensitivity, tokens=turn.tokens, score=0.0, dropped=True)
        for turn in offered.turns
        if turn not in kept.turns
    ]
    return (*passages, *turns)
