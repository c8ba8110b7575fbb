"""The router's two ways to Kafka, on a real broker."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

from schemas.events import BundlePublished, Feedback, Interaction
from schemas.topics import Topic
from services.router.adapters import KafkaRecorder
from services.router.domain.request import Feedback as Said
from services.router.domain.request import Request
from services.router.experience import Experience
from services.router.state import Directory
from services.runtime.kafka import Follower, Producer
from services.runtime.settings import KafkaSettings
from tests.unit.router.fakes import Stack, bundle, deployment, no_space, user
from tests.unit.router.test_experience import outcome
from tests.unit.router.test_tasks import space


async def test_what_kafka_tells_decides_and_what_is_decided_is_told_to_kafka(kafka: str) -> None:
    settings = KafkaSettings(bootstrap_servers=kafka, partitions=2)
    experience = Experience(space)
    directory = Directory(no_space, experience)
    stack = Stack()
    seen: list[Interaction | Feedback] = []
    async with Producer(settings) as producer:
        published = BundlePublished(version="b9", published_at=datetime.now(UTC), content=bundle().model_dump_json())
        await producer.send(Topic.BUNDLES, published)
        await producer.send(Topic.DEPLOYMENTS, deployment("chat"))
        for _ in range(20):
            await producer.send(Topic.OUTCOMES, outcome("Hi", 0.0))
        apply = {
            Topic.BUNDLES: directory.take_bundle,
            Topic.DEPLOYMENTS: directory.take_deployment,
            Topic.OUTCOMES: experience.take_outcome,
        }
        follower = Follower(settings, apply)
        following = asyncio.create_task(follower.run())
        await asyncio.wait_for(follower.caught_up(), 60)
        router = replace(
            stack.router, catalogue=directory.catalogue, recorder=KafkaRecorder(producer), experience=experience
        )
        completion = await router.complete(stack.call(), Request(messages=(user("Hi"),)))
        await router.send_feedback(stack.call(), Said(completion.request_id, "rating", rating=1.0))
        following.cancel()
        # Acknowledged: so a reader that starts now finds both.
        reader = Follower(settings, {Topic.INTERACTIONS: seen.append, Topic.FEEDBACK: seen.append}, "reader")
        reading = asyncio.create_task(reader.run())
        await asyncio.wait_for(reader.caught_up(), 60)
        reading.cancel()
        for task in (following, reading):
            with suppress(asyncio.CancelledError):
                await task
    ours = [event for event in seen if event.request_id == completion.request_id]
    interaction = next(event for event in ours if isinstance(event, Interaction))
    feedback = next(event for event in ours if isinstance(event, Feedback))
    assert (completion.model, interaction.model) == ("specialist-shop-chat", "specialist-shop-chat")
    assert (interaction.answer, interaction.finish_reason) == ("Hello there", "stop")
    assert feedback.rating == 1.0
    chances = {estimate.model: estimate.chance or 0.0 for estimate in interaction.estimates}
    assert chances["small"] < 0.2 < chances["big"]  # small has failed
