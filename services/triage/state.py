"""The bundle in force and the tasks that change, as the topics tell it."""

import asyncio
from datetime import datetime, timedelta

from schemas.bundle import Bundle
from schemas.events import BundlePublished, Drift
from services.runtime.bundles import NOTHING_PUBLISHED, bundle_of
from services.runtime.errors import Retryable


class FollowedBundles:
    """The bundle that was published last."""

    def __init__(self) -> None:
        self._bundle: Bundle | None = None
        self.published = asyncio.Event()

    def apply(self, event: BundlePublished) -> None:
        """Take what was published.

        Raises:
            Rejected: It is not a bundle; the one before holds on.
        """
        self._bundle = bundle_of(event)
        self.published.set()

    def current(self) -> Bundle:
        """Return the bundle.

        Raises:
            Retryable: None has been published yet.
        """
        if self._bundle is None:
            raise Retryable(NOTHING_PUBLISHED)
        return self._bundle


class FollowedDrift:
    """In which tasks requests or answers have changed of late.

    A score that was learned of what was asked before may miss what is wrong now; a random part of the answers does not.
    """

    def __init__(self, hours: float, exploration: float) -> None:
        """Say what follows from a change.

        Args:
            hours: How long it lasts.
            exploration: Least part of the budget that is then picked at random.
        """
        self._lasts = timedelta(hours=hours)
        self._exploration = exploration
        self._until: dict[tuple[str, str], datetime] = {}

    def apply(self, drift: Drift) -> None:
        """Take a change; one of the service alone, or of an objective, says nothing of answers."""
        if drift.task and drift.aspect in ("input", "output"):
            task, until = (drift.tenant, drift.task), drift.detected_at + self._lasts
            self._until[task] = max(until, self._until.get(task, until))

    def exploration(self, tenant: str, task: str, now: datetime) -> float:
        """Return the least part of a task's budget that is to be picked at random; 0 where nothing has changed."""
        until = self._until.get((tenant, task))
        return self._exploration if until is not None and now < until else 0.0
