"""Who holds which item: by the one order in which claims are on record.

All actions lie in one partition, so every replica reads them in the same order and comes to the same: of two claims of
an item, the first holds it, whichever replica wrote it. So nobody needs to own an item to give it out.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from schemas.events import ReviewAction
from schemas.labels import Kind

CLAIMED, EXTENDED, RELEASED = "claimed", "extended", "released"
_GRANTS = (CLAIMED, EXTENDED)
# With a label, whose id is that of the lease.
SUBMITTED, SKIPPED, ESCALATED = JUDGED = ("submitted", "skipped", "escalated")
# After so many claims, those that are over are looked for.
_SWEEP = 1000


@dataclass(frozen=True)
class Hold:
    """An item in an expert's hands.

    Attributes:
        lease_id: Under which lease.
        expert: Whose hands.
        since: When it was claimed.
        until: When the lease ends.
        kind: As what it was claimed.
    """

    lease_id: str
    expert: str
    since: datetime
    until: datetime
    kind: Kind = Kind.FIRST


class Holds:
    """What is held, as far as the actions have been read."""

    def __init__(self) -> None:
        self._holds: dict[str, Hold] = {}  # by request
        self._claims = 0

    def take(self, action: ReviewAction) -> None:
        """Take in an action, the next one on record. Whatever else is done under a lease ends it."""
        if not action.lease_id or action.until is None:
            return
        hold = self.of(action.request_id, action.at)
        if hold is None and action.action in _GRANTS:  # the claim may lie before what was read
            kind = Kind(action.detail) if action.detail else Kind.FIRST
            self._holds[action.request_id] = Hold(action.lease_id, action.expert, action.at, action.until, kind)
        elif hold is not None and hold.lease_id == action.lease_id:
            self._holds[action.request_id] = replace(hold, until=action.until)
        self._claims += 1
        if self._claims % _SWEEP == 0:
            self._holds = {name: each for name, each in self._holds.items() if each.until > action.at}

    def of(self, request_id: str, now: datetime) -> Hold | None:
        """Return who holds an item; nothing when nobody does."""
        hold = self._holds.get(request_id)
        return hold if hold is not None and now < hold.until else None
