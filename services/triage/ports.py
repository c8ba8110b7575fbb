"""What triage needs from outside."""

import asyncio
from collections.abc import Iterable
from typing import Any, Protocol

from schemas.bundle import Bundle
from schemas.events import Label, ReviewAction
from services.triage.domain.queue import QueueName
from services.triage.domain.rows import Item, Labelled
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


class Tables(Protocol):
    """The tables, to be read."""

    def check_ready(self) -> None:
        """Do nothing once the tables are up to date.

        Raises:
            Retryable: They are not yet.
        """

    def item(self, request_id: str) -> Item | None:
        """Return an item of the queue, open or done."""

    def selectors(self) -> Iterable[tuple[QueueName, Selector]]:
        """Yield what was decided, for each partition, tenant and task."""

    def labelled(self) -> Iterable[tuple[QueueName, Labelled]]:
        """Yield what was labelled, for each partition, tenant and task."""


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
