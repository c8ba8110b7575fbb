"""What triage needs from outside."""

import asyncio
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Protocol

from schemas.bundle import Bundle
from schemas.events import Label, ReviewAction
from services.triage.domain.queue import QueueName
from services.triage.domain.rows import Item
from services.triage.domain.selection import Selector


class Labels(Protocol):
    """Where labels go."""

    async def write(self, label: Label) -> None:
        """Write a label; on return it is acknowledged.

        Raises:
            Retryable: It was not acknowledged; whether it was written is unknown.
        """


class Actions(Protocol):
    """Where it goes on record what experts do."""

    def check_room(self) -> None:
        """Do nothing while more can be taken; to be asked before something is done.

        Raises:
            Retryable: Too much waits to be written, so nothing more may be done.
        """

    def record(self, action: ReviewAction) -> asyncio.Future[None]:
        """Take an action to be written, however long that takes; what is returned is done when it is acknowledged."""


class Items(Protocol):
    """Rows of items, by request."""

    def get(self, request_id: str) -> Item | None:
        """Return a row."""

    def put(self, request_id: str, item: Item) -> None:
        """Write a row."""

    def delete(self, request_id: str) -> None:
        """Remove a row."""

    def before(self, time: datetime) -> Iterable[str]:
        """Return the requests of rows that came before a time."""

    def scrub(self) -> None:
        """Take what was overwritten or removed out of the files, soon."""


class Decided(Protocol):
    """What was decided about the traffic, to be read."""

    def selectors(self) -> Iterable[tuple[QueueName, Selector]]:
        """Yield what was decided, for each partition of this replica, tenant and task."""


class Bundles(Protocol):
    """The bundle that holds now."""

    def current(self) -> Bundle:
        """Return it.

        Raises:
            Retryable: None has been published yet.
        """


class Record(Protocol):
    """What is on record, to be read."""

    async def rows(self, statement: str) -> list[dict[str, Any]]:
        """Return the rows of a query, each by column name.

        Raises:
            Retryable: It cannot be read now.
            Rejected: The query was refused.
        """
