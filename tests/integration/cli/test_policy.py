"""`gyre policy push` on a real broker."""

import asyncio
from pathlib import Path

import pytest

from gyre.cli.policy import publish
from gyre.cli.who import account
from schemas.bundle import load_bundle
from schemas.events import BundlePublished
from schemas.topics import Topic
from services.runtime.kafka import Follower
from services.runtime.settings import KafkaSettings

SAMPLE = Path(__file__).parents[3] / "deploy" / "bundle"


async def test_a_bundle_says_who_published_it(kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GYRE_KAFKA_BOOTSTRAP_SERVERS", kafka)
    await asyncio.to_thread(publish, SAMPLE)
    published: list[BundlePublished] = []
    follower = Follower(KafkaSettings(), {Topic.BUNDLES: published.append})
    following = asyncio.create_task(follower.run())
    await asyncio.wait_for(follower.caught_up(), 60)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert published[-1].published_by == account()
    assert published[-1].version == load_bundle(SAMPLE).version
