"""The bundle in force and the tasks that change, as the topics tell it; and the accounts, as their file does."""

import asyncio
from datetime import datetime, timedelta
from pathlib import Path

from schemas.bundle import Bundle
from schemas.events import BundlePublished, Drift
from services.runtime import telemetry
from services.runtime.bundles import NOTHING_PUBLISHED, bundle_of
from services.runtime.errors import Fatal, Retryable
from services.triage.accounts import InvalidAccountsError, load_accounts


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


class FollowedAccounts:
    """The accounts as the file has them now."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            Fatal: It cannot be used.
        """
        self._path = path
        self._version = self._look()
        try:
            self.current = load_accounts(path)
        except InvalidAccountsError as error:
            raise Fatal(f"GYRE_TRIAGE_ACCOUNTS: {error}") from error

    def read_again(self) -> None:
        """Read the file if it has changed; a bad one is logged, and the accounts before hold on."""
        version = self._look()
        if version == self._version:
            return
        self._version = version
        try:
            self.current = load_accounts(self._path)
        except InvalidAccountsError as error:
            telemetry.log().error("accounts cannot be used, those before hold on", reason=str(error))
        else:
            telemetry.log().info("accounts read", accounts=len(self.current.root))

    def _look(self) -> tuple[int, int, int] | None:
        # At the file behind all links: a mounted secret is changed by pointing a link elsewhere.
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size
