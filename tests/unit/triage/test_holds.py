from datetime import datetime, timedelta
from itertools import permutations

import pytest

from schemas.events import ReviewAction
from services.triage.domain.holds import CLAIMED, EXTENDED, RELEASED, SUBMITTED, Holds
from tests.unit.triage.builders import NOW


def minute(number: float) -> datetime:
    return NOW + timedelta(minutes=number)


def action(what: str, lease_id: str, at: float, until: float, expert: str = "ann") -> ReviewAction:
    return ReviewAction(
        action_id=f"{what} {lease_id} {at}",
        at=minute(at),
        expert=expert,
        action=what,
        request_id="r1",
        lease_id=lease_id,
        until=minute(until),
    )


def _held(*actions: ReviewAction, at: float) -> str | None:
    holds = Holds()
    for each in actions:
        holds.take(each)
    hold = holds.of("r1", minute(at))
    return hold.lease_id if hold is not None else None


def test_of_two_claims_the_first_on_record_holds_whoever_wrote_it() -> None:
    one, other = action(CLAIMED, "a", 0, 15), action(CLAIMED, "b", 0, 15, "bob")
    assert _held(one, other, at=1) == "a"
    assert _held(other, one, at=1) == "b"


def test_a_claim_after_the_end_of_one_before_holds() -> None:
    assert _held(action(CLAIMED, "a", 0, 15), action(CLAIMED, "b", 15, 30), at=16) == "b"
    assert _held(action(CLAIMED, "a", 0, 15), at=15) is None


def test_what_is_extended_holds_on_and_who_claims_meanwhile_does_not() -> None:
    actions = action(CLAIMED, "a", 0, 15), action(EXTENDED, "a", 10, 25), action(CLAIMED, "b", 20, 35, "bob")
    assert _held(*actions, at=22) == "a"
    assert _held(*actions, at=25) is None


@pytest.mark.parametrize("what", [RELEASED, SUBMITTED])
def test_what_is_released_or_submitted_is_free(what: str) -> None:
    assert _held(action(CLAIMED, "a", 0, 15), action(what, "a", 5, 5), at=5) is None


def test_what_is_done_under_a_lease_that_lost_changes_nothing() -> None:
    for extended, released in permutations([action(EXTENDED, "b", 1, 30), action(RELEASED, "b", 1, 1)]):
        assert _held(action(CLAIMED, "a", 0, 15), action(CLAIMED, "b", 0, 15), extended, released, at=2) == "a"


def test_an_extension_whose_claim_was_not_read_holds() -> None:
    assert _held(action(EXTENDED, "a", 10, 25), action(CLAIMED, "b", 12, 27), at=13) == "a"


def test_other_actions_say_nothing_of_who_holds_what() -> None:
    assert _held(ReviewAction(action_id="x", at=NOW, expert="ann", action="signed-in"), at=1) is None


def test_what_is_long_over_is_forgotten() -> None:
    holds = Holds()
    for number in range(3000):
        claim = ReviewAction(
            action_id=str(number),
            at=minute(number),
            expert="ann",
            action=CLAIMED,
            request_id=f"r{number}",
            lease_id=str(number),
            until=minute(number + 15),
        )
        holds.take(claim)
    assert len(holds._holds) < 1100
