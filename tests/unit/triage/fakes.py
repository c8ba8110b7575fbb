"""What triage has outside of itself, in memory."""

import asyncio

from schemas.events import ReviewAction
from services.runtime.errors import Retryable


class Actions:
    """What went on record; each is acknowledged at once, unless Kafka is away."""

    def __init__(self) -> None:
        self.recorded: list[ReviewAction] = []
        self.is_full = False
        self.unacknowledged: list[asyncio.Future[None]] = []
        self.acknowledges = True

    def check_room(self) -> None:
        if self.is_full:
            raise Retryable("Kafka is away")

    def record(self, action: ReviewAction) -> asyncio.Future[None]:
        self.recorded.append(action)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.acknowledges:
            done.set_result(None)
        else:
            self.unacknowledged.append(done)
        return done

    @property
    def told(self) -> list[tuple[str, str, str]]:
        """Who did what, and the detail."""
        return [(each.expert, each.action, each.detail) for each in self.recorded]
