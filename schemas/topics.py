"""Every Kafka topic of Gyre, in one place."""

from dataclasses import dataclass
from enum import StrEnum

HOUR_MS = 60 * 60 * 1000
DAY_MS = 24 * HOUR_MS
# What compaction leaves alone, so that audit reads every record even after days of being away.
UNCOMPACTED_MS = 7 * DAY_MS


class Topic(StrEnum):
    """Named `<service>.<event>.v<N>` after the service whose decision it is; `gyre policy push` writes the bundles."""

    INTERACTIONS = "router.interactions.v1"
    FEEDBACK = "router.feedback.v1"
    SHADOWS = "router.shadows.v1"
    USAGE = "router.usage.v1"
    BUNDLES = "governance.bundles.v1"
    DOCUMENTS = "context.documents.v1"
    EDGE_CASES = "triage.edge-cases.v1"
    LABELS = "triage.labels.v1"
    OUTCOMES = "triage.outcomes.v1"
    ACTIONS = "triage.actions.v1"
    CANDIDATES = "trainer.candidates.v1"
    DEPLOYMENTS = "serving.deployments.v1"
    CHECKPOINTS = "audit.checkpoints.v1"
    DRIFT = "audit.drift.v1"
    ERASURES = "audit.erasures.v1"

    @property
    def dead_letters(self) -> str:
        """Where records of this topic go that cannot be handled."""
        return f"{self}.dead-letters"


@dataclass(frozen=True)
class TopicSpec:
    """How a topic is created.

    Attributes:
        key: The event's field that keys it; records of one key keep their order.
        partitioned: Whether it has as many partitions as the deployment asks for. Topics keyed by `request_id` all do,
            so that they are co-partitioned and meet where they are joined; small, ordered topics have one.
        compacted: Whether it is state (the last record of each key counts) rather than history.
        retention_ms: How long history is kept; of state, only where it `expires`.
        expires: Whether state is dropped, too, when it is older than that.
        uncompacted_ms: How long the records of a key are all kept before the last of them alone is.
    """

    key: str
    partitioned: bool = False
    compacted: bool = False
    retention_ms: int = 30 * DAY_MS
    expires: bool = False
    uncompacted_ms: int = UNCOMPACTED_MS


SPECS: dict[Topic, TopicSpec] = {
    Topic.INTERACTIONS: TopicSpec(key="request_id", partitioned=True),
    Topic.FEEDBACK: TopicSpec(key="request_id", partitioned=True),
    Topic.SHADOWS: TopicSpec(key="request_id", partitioned=True),
    # Running totals, many of a key in an hour: only the last is of use, and none when its longest period is over.
    Topic.USAGE: TopicSpec(
        key="usage_key", compacted=True, retention_ms=32 * DAY_MS, expires=True, uncompacted_ms=HOUR_MS
    ),
    Topic.BUNDLES: TopicSpec(key="name", compacted=True),
    Topic.DOCUMENTS: TopicSpec(key="document_key", compacted=True),
    Topic.EDGE_CASES: TopicSpec(key="request_id", partitioned=True),
    Topic.LABELS: TopicSpec(key="request_id", partitioned=True),
    Topic.OUTCOMES: TopicSpec(key="request_id", partitioned=True),
    # Few, and those of one expert in their order. An erasure leaves them: they hold nothing of what was asked.
    Topic.ACTIONS: TopicSpec(key="expert"),
    # Every candidate has a key of its own, so all of them stay: a rollback or an export may need an old one.
    Topic.CANDIDATES: TopicSpec(key="candidate_id", compacted=True),
    Topic.DEPLOYMENTS: TopicSpec(key="task_key", compacted=True),
    Topic.CHECKPOINTS: TopicSpec(key="chain"),
    Topic.DRIFT: TopicSpec(key="task_key"),
    # Kept for good: whoever reads old records must know what not to use of them.
    Topic.ERASURES: TopicSpec(key="request_id", partitioned=True, compacted=True),
}
