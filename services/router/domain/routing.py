"""Which model answers, and what it is shown.

Sensitivity decides: the highest level of all that the model would see. What would leave no cleared live model is left
out, highest level first, and the record says so. Of the models that are cleared the cheapest answers whose chance of a
right answer clears the bar, within the latency objective; now and then another, so that something is learned of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas.bundle import Routing
from schemas.events import Citation, RouteCandidate, RouteEstimate, Sensitivity
from services.router.domain.catalogue import TIERS, Candidate
from services.router.domain.knowledge import NOTHING, Clearance, Knowledge, Passage, Turn

# The draw that explores nothing.
UNEXPLORED = 1.0


@dataclass(frozen=True)
class Estimate:
    """What is to be expected of a candidate for a request.

    Attributes:
        chance: Of a right answer; none where nobody judges.
        price: In the unit of the bundle's prices.
        seconds: In which 95 of 100 of its latest answers were complete; none where too few are known.
    """

    chance: float | None = None
    price: float = 0.0
    seconds: float | None = None


@dataclass(frozen=True)
class Decision:
    """What was decided: by whom a request is answered (nobody: it is refused), at which sensitivity, knowing what.

    `fallbacks` are asked in their order where the chosen one fails or is unsure: cleared, of its tier or a higher one.
    `estimates` are in the order of `candidates`; `propensity` is the probability with which the model was chosen.
    """

    chosen: Candidate | None
    sensitivity: Sensitivity
    candidates: tuple[RouteCandidate, ...]
    estimates: tuple[RouteEstimate, ...]
    propensity: float
    policies: tuple[str, ...]
    knowledge: Knowledge
    citations: tuple[Citation, ...]
    fallbacks: tuple[Candidate, ...] = ()


@dataclass(frozen=True)
class _Choice:
    """Who answers, why, with which probability, and why each other candidate that might have does not."""

    chosen: Candidate
    reason: str
    propensity: float
    lost: Mapping[str, str]


def decide(
    candidates: Sequence[Candidate],
    estimates: Sequence[Estimate],
    routing: Routing,
    draw: float,
    asked_for: str,
    sensitivity: Sensitivity,
    clearances: Mapping[Sensitivity, Clearance],
    knowledge: Knowledge,
) -> Decision:
    """Choose among the candidates that are cleared, or the one asked for by name if it is.

    Args:
        candidates: Live models, cheapest tier first.
        estimates: What is to be expected of each, in their order.
        routing: What is wanted of the model.
        draw: A fresh random number in [0, 1), by which is explored; `UNEXPLORED`.
        asked_for: Name of a candidate, or empty.
        sensitivity: Of the request by itself.
        clearances: What governance said of that level and those above it; a level it did not speak of clears nothing.
        knowledge: What context would add.
    """
    expected = dict(zip((candidate.name for candidate in candidates), estimates, strict=True))
    eligible = [candidate for candidate in candidates if asked_for in ("", candidate.name)]
    levels = sorted({sensitivity, *_levels_above(sensitivity, knowledge)}, key=lambda level: -level.level)
    for level in levels:
        cleared = [c for c in eligible if c.cleared_as in _clearance(clearances, level).models]
        if cleared:
            choice = _choose(cleared, expected, routing, draw, asked_for)
            break
    else:
        level, choice = sensitivity, None
    kept = _up_to(level, knowledge) if choice else NOTHING
    return Decision(
        chosen=choice.chosen if choice else None,
        sensitivity=level,
        candidates=tuple(
            _explained(candidate, choice, asked_for, level, _clearance(clearances, level)) for candidate in candidates
        ),
        estimates=tuple(
            RouteEstimate(model=candidate.name, chance=each.chance, price=each.price, seconds=each.seconds)
            for candidate, each in zip(candidates, estimates, strict=True)
        ),
        propensity=choice.propensity if choice else 1.0,
        policies=_clearance(clearances, level).policies,
        knowledge=kept,
        citations=_citations(knowledge, kept),
        fallbacks=_fallbacks(choice.chosen if choice else None, eligible, _clearance(clearances, level)),
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


def _choose(
    cleared: Sequence[Candidate], expected: Mapping[str, Estimate], routing: Routing, draw: float, asked_for: str
) -> _Choice:
    if asked_for:
        return _Choice(cleared[0], "asked for by name", 1.0, {})
    lost: dict[str, str] = {}
    by_price = sorted(cleared, key=lambda candidate: expected[candidate.name].price)
    objective = routing.latency_ms / 1000 if routing.latency_ms else float("inf")
    quick = [c for c in by_price if (expected[c.name].seconds or 0.0) <= objective]
    for candidate in by_price:
        if quick and candidate not in quick:
            lost[candidate.name] = f"answers in {expected[candidate.name].seconds:.1f} s, objective {objective:.1f} s"
    in_time = quick or by_price
    trusted = [c for c in in_time if _chance(expected[c.name]) >= routing.bar]
    if trusted:
        best = trusted[0]
        reason = f"cheapest that clears the bar {routing.bar:.2f}" if routing.bar else "cheapest cleared live model"
    else:
        best = max(in_time, key=lambda candidate: _chance(expected[candidate.name]))
        reason = f"likeliest to be right; none clears the bar {routing.bar:.2f}"
    for candidate in in_time:
        if candidate not in trusted:
            chance = _chance(expected[candidate.name])
            lost[candidate.name] = f"chance {chance:.2f} is below the bar {routing.bar:.2f}"
        elif expected[candidate.name].price > expected[best.name].price:
            lost[candidate.name] = f"dearer than {best.name}"
        else:
            lost[candidate.name] = f"of a dearer tier than {best.name}"
    within = [c for c in in_time if c is not best and expected[c.name].price <= (routing.exploration_price or 0.0)]
    if not within or not routing.exploration:
        return _Choice(best, reason, 1.0, lost)
    if draw >= routing.exploration:
        return _Choice(best, reason, 1 - routing.exploration, lost)
    explored = within[int(draw / routing.exploration * len(within))]
    lost[best.name] = f"{reason}; {explored.name} is explored"
    return _Choice(explored, "explored at random", routing.exploration / len(within), lost)


def _chance(estimate: Estimate) -> float:
    """Return the chance of a right answer; where nobody judges, every model is trusted."""
    return 1.0 if estimate.chance is None else estimate.chance


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
    candidate: Candidate, choice: _Choice | None, asked_for: str, level: Sensitivity, clearance: Clearance
) -> RouteCandidate:
    cleared = candidate.cleared_as in clearance.models
    chosen = choice is not None and candidate is choice.chosen
    if not cleared:
        by = ", ".join(clearance.forbidden.get(candidate.cleared_as, ()))
        reason = f"not cleared for {level}: {f'forbidden by {by}' if by else 'no policy permits it'}"
    elif asked_for not in ("", candidate.name):
        reason = "not the model that was asked for"
    else:
        assert choice is not None  # this one is cleared and may be chosen
        reason = choice.reason if chosen else choice.lost[candidate.name]
    return RouteCandidate(
        model=candidate.name,
        model_version=candidate.version,
        tier=candidate.tier,
        cleared=cleared,
        live=True,  # others are not candidates yet
        chosen=chosen,
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
