"""Ports made real: the bundle from its topic, labels to theirs."""

import asyncio

from schemas.bundle import Bundle
from schemas.events import BundlePublished, Label
from schemas.topics import Topic
from services.runtime.bundles import NOTHING_PUBLISHED, bundle_of
from services.runtime.errors import Retryable
from services.runtime.kafka import Producer


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


class KafkaLabels:
    """Labels on their topic."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    async def write(self, label: Label) -> None:
        """Write a label; on return it is acknowledged by every in-sync replica.

        Raises:
            Retryable: It was not.
        """
        await self._producer.send(Topic.LABELS, label)
