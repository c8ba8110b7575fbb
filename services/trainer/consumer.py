"""The trainer's Kafka edge: what it follows."""

from schemas.topics import Topic
from services.runtime.kafka import Follower
from services.runtime.settings import KafkaSettings
from services.trainer.state import Knowledge


def follower(settings: KafkaSettings, knowledge: Knowledge) -> Follower:
    """Return what keeps the trainer's knowledge up to date."""
    return Follower(
        settings,
        {
            Topic.BUNDLES: knowledge.take_bundle,
            Topic.DEPLOYMENTS: knowledge.take_deployment,
            Topic.EDGE_CASES: knowledge.take_edge_case,
            Topic.LABELS: knowledge.take_label,
            Topic.ERASURES: knowledge.take_erasure,
        },
        name="trainer",
    )
