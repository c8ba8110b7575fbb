"""The events that go through Kafka, as frozen values.

They are the source of the Avro schemas: `schemas.avro` derives one from each class, and what was derived once is kept
in git under a number (`schemas/avro/ids.json`). Add fields with defaults; never rename, remove or retype one.
"""

from schemas.events.audit import REPLAY_HOP, Checkpoint, DeadLetter, Drift, Erasure, Place
from schemas.events.base import Event, Finding, Message, Sensitivity, Tool, ToolCall
from schemas.events.context import Document
from schemas.events.governance import BundlePublished
from schemas.events.router import (
    WRONG_FORM,
    Attempt,
    Citation,
    Cut,
    Feedback,
    Interaction,
    PeriodUsage,
    Release,
    RouteCandidate,
    RouteEstimate,
    Shadow,
    Stage,
    Usage,
)
from schemas.events.serving import Deployment, Specialist
from schemas.events.trainer import Candidate, GateAnswer
from schemas.events.triage import EdgeCase, Edit, Label, Outcome, ReviewAction, Signal
from schemas.topics import Topic

__all__ = [
    "EVENTS",
    "REPLAY_HOP",
    "WRONG_FORM",
    "Attempt",
    "BundlePublished",
    "Candidate",
    "Checkpoint",
    "Citation",
    "Cut",
    "DeadLetter",
    "Deployment",
    "Document",
    "Drift",
    "EdgeCase",
    "Edit",
    "Erasure",
    "Event",
    "Feedback",
    "Finding",
    "GateAnswer",
    "Interaction",
    "Label",
    "Message",
    "Outcome",
    "PeriodUsage",
    "Place",
    "Release",
    "ReviewAction",
    "RouteCandidate",
    "RouteEstimate",
    "Sensitivity",
    "Shadow",
    "Signal",
    "Specialist",
    "Stage",
    "Tool",
    "ToolCall",
    "Usage",
]

EVENTS: dict[Topic, type[Event]] = {
    Topic.INTERACTIONS: Interaction,
    Topic.FEEDBACK: Feedback,
    Topic.SHADOWS: Shadow,
    Topic.USAGE: Usage,
    Topic.BUNDLES: BundlePublished,
    Topic.DOCUMENTS: Document,
    Topic.EDGE_CASES: EdgeCase,
    Topic.LABELS: Label,
    Topic.OUTCOMES: Outcome,
    Topic.ACTIONS: ReviewAction,
    Topic.CANDIDATES: Candidate,
    Topic.DEPLOYMENTS: Deployment,
    Topic.CHECKPOINTS: Checkpoint,
    Topic.DRIFT: Drift,
    Topic.ERASURES: Erasure,
}
