"""The bundle: everything an operator decides, as files in git, validated whole and published whole.

A bundle folder holds `tenants.yaml`, `applications.yaml`, `models.yaml`, `tasks.yaml`, `guardrails.yaml`,
`policies/*.cedar`, where models run elsewhere than in Triton `upstreams.yaml`, and where candidates are to answer cases
of the operator's own `gate.yaml`. Its version is the digest of its content, so the same files are the same version
everywhere.
"""

from schemas.bundle.base import FEWEST_EXAMPLES, Name
from schemas.bundle.guardrails import CLASSIFIED, DEFAULT, OF_ANSWERS, Direction, Guardrail, Kind
from schemas.bundle.models import TRITON, Model, Price, Upstream
from schemas.bundle.tasks import Accepted, Cascade, GateCase, Learning, Rescanned, Rollout, Task, Template, ToolDocument
from schemas.bundle.tenants import (
    Application,
    Experts,
    LatencyObjective,
    Limit,
    Limits,
    Memory,
    Objectives,
    Routing,
    Tenant,
)
from schemas.bundle.whole import Bundle, InvalidBundleError, load_bundle

__all__ = [
    "CLASSIFIED",
    "DEFAULT",
    "FEWEST_EXAMPLES",
    "OF_ANSWERS",
    "TRITON",
    "Accepted",
    "Application",
    "Bundle",
    "Cascade",
    "Direction",
    "Experts",
    "GateCase",
    "Guardrail",
    "InvalidBundleError",
    "Kind",
    "LatencyObjective",
    "Learning",
    "Limit",
    "Limits",
    "Memory",
    "Model",
    "Name",
    "Objectives",
    "Price",
    "Rescanned",
    "Rollout",
    "Routing",
    "Task",
    "Template",
    "Tenant",
    "ToolDocument",
    "Upstream",
    "load_bundle",
]
