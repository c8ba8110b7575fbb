"""Which models may see a request: a bundle's Cedar policies.

The principal is the application, the resource a model, the action `see`; what policies may speak of is written down in
`bundle.cedarschema`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cedarpy

from schemas.bundle import Bundle, InvalidBundleError
from schemas.events import Sensitivity

SPECIALIST = "specialist"
SCHEMA = cedarpy.Schema.from_str((Path(__file__).parents[1] / "bundle.cedarschema").read_text())


@dataclass(frozen=True)
class Clearance:
    """Models that may see requests of one sensitivity.

    Attributes:
        sensitivity: Of the request and all that is added to it.
        models: Names of the bundle's models, and `specialist` for the task's specialist.
        policies: The policies (`@id`) that allowed or forbade.
        forbidden: Of each other model the policies that forbid it; none where no policy permits it.
    """

    sensitivity: Sensitivity
    models: tuple[str, ...]
    policies: tuple[str, ...]
    forbidden: Mapping[str, tuple[str, ...]]


class Clearances:
    """A bundle's policies, read once, and what they decided so far."""

    def __init__(self, bundle: Bundle) -> None:
        """Read and validate the policies.

        Raises:
            InvalidBundleError: A policy cannot be read, speaks of what does not exist, or has no `@id` of its own.
        """
        if SPECIALIST in bundle.models:
            raise InvalidBundleError(f"models.{SPECIALIST}: this name stands for the task's specialist; choose another")
        self._bundle = bundle
        self._ids = _validated_ids(bundle.policies)
        self._policies = cedarpy.PolicySet.from_str(_joined(bundle.policies))
        self._decided: dict[tuple[str, str, Sensitivity], Clearance] = {}

    def from_level(self, application: str, task: str, sensitivity: Sensitivity) -> list[Clearance]:
        """Return what is cleared at a sensitivity and at each level above it.

        Args:
            application: One of the bundle's.
            task: One of the application's, so that what is remembered is bounded by the bundle.
            sensitivity: The lowest level wanted.
        """
        return [self._at(application, task, each) for each in Sensitivity if each.level >= sensitivity.level]

    def _at(self, application: str, task: str, sensitivity: Sensitivity) -> Clearance:
        key = application, task, sensitivity
        if key not in self._decided:
            self._decided[key] = self._decide(application, task, sensitivity)
        return self._decided[key]

    def _decide(self, application: str, task: str, sensitivity: Sensitivity) -> Clearance:
        tenant = self._bundle.applications[application].tenant
        region = self._bundle.tenants[tenant].region
        caller = {"tenant": tenant, "region": region, "purpose": self._bundle.applications[application].purpose}
        models = {name: {"tier": model.tier, "region": model.region} for name, model in self._bundle.models.items()} | {
            SPECIALIST: {"tier": "specialist", "region": region}
        }
        entities = [
            _entity("Application", application, caller),
            *(_entity("Model", name, attributes) for name, attributes in models.items()),
        ]
        requests = [
            {
                "principal": {"type": "Application", "id": application},
                "action": {"type": "Action", "id": "see"},
                "resource": {"type": "Model", "id": name},
                "context": {"sensitivity": sensitivity.level, "task": task},
            }
            for name in models
        ]
        answers = cedarpy.is_authorized_batch(requests, self._policies, entities, SCHEMA)
        # Cedar skips a policy that fails, also one that would have forbidden: then nothing is cleared.
        cleared = [
            name
            for name, answer in zip(models, answers, strict=True)
            if answer.allowed and not answer.diagnostics.errors
        ]
        by_model = {
            name: tuple(self._ids[reason] for reason in answer.diagnostics.reasons)
            for name, answer in zip(models, answers, strict=True)
        }
        named = dict.fromkeys(policy for policies in by_model.values() for policy in policies)
        forbidden = {name: policies for name, policies in by_model.items() if name not in cleared}
        return Clearance(sensitivity, tuple(cleared), tuple(named), forbidden)


def _entity(kind: str, name: str, attributes: dict[str, str]) -> dict[str, Any]:
    return {"uid": {"type": kind, "id": name}, "attrs": attributes, "parents": []}


def _joined(policies: dict[str, str]) -> str:
    return "\n".join(policies.values())


def _validated_ids(policies: dict[str, str]) -> dict[str, str]:
    """Return the `@id` of each policy by the name that Cedar gives it in the joined files."""
    files: dict[str, str] = {}
    for file, text in policies.items():
        for each in _ids(file, text).values():
            if each in files:
                raise InvalidBundleError(f'policies/{file}: @id("{each}") is taken by policies/{files[each]}')
            files[each] = file
    return _ids("*.cedar", _joined(policies))


def _ids(file: str, text: str) -> dict[str, str]:
    result = cedarpy.validate_policies(text, SCHEMA)
    if not result.validation_passed:
        error = re.sub(
            r"for policy `policy(\d+)`, ", lambda match: f"policy {int(match[1]) + 1}: ", result.errors[0].error
        )
        raise InvalidBundleError(f"policies/{file}: {error}")
    parsed = json.loads(cedarpy.policies_to_json_str(text))
    if parsed["templates"]:
        raise InvalidBundleError(f"policies/{file}: a policy with ?principal or ?resource decides nothing here")
    ids: dict[str, str] = {}
    for position, (name, policy) in enumerate(parsed["staticPolicies"].items(), 1):
        each = policy.get("annotations", {}).get("id")
        if not each:
            raise InvalidBundleError(f'policies/{file}: policy {position} needs a name: @id("...") before it')
        if each in ids.values():
            raise InvalidBundleError(f'policies/{file}: @id("{each}") stands there twice')
        ids[name] = each
    return ids
