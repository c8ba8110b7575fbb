"""The trainer's Kafka edge: what it follows."""

from typing import Any

from schemas.bundle import Bundle
from schemas.events import BundlePublished, Deployment, EdgeCase, Label
from schemas.topics import Topic
from services.runtime.errors import Rejected
from services.runtime.kafka import Follower
from services.runtime.settings import KafkaSettings
from services.trainer.domain import Knowledge


def follower(settings: KafkaSettings, knowledge: Knowledge) -> Follower:
    """Return what keeps the trainer's knowledge up to date."""

    def take_bundle(published: BundlePublished) -> None:
        try:
            knowledge.bundle = Bundle.model_validate_json(published.content)
        except ValueError as error:
            raise Rejected(f"bundle {published.version} cannot be used") from error
        knowledge.bundle_version = published.version

    def take_deployment(deployment: Deployment) -> None:
        knowledge.deployments[deployment.tenant, deployment.task] = deployment

    def take_edge_case(case: EdgeCase) -> None:
        knowledge.edge_cases[case.request_id] = case

    def take_label(label: Label) -> None:
        known = knowledge.labels.get(label.request_id)
        if known is None or known.labelled_at <= label.labelled_at:
            knowledge.labels[label.request_id] = label

    apply: dict[Topic, Any] = {
        Topic.BUNDLES: take_bundle,
        Topic.DEPLOYMENTS: take_deployment,
        Topic.EDGE_CASES: take_edge_case,
        Topic.LABELS: take_label,
    }
    return Follower(settings, apply, name="trainer")
