"""Ports made real: labels to their topic."""

from schemas.events import Label
from schemas.topics import Topic
from services.runtime.kafka import Producer


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
