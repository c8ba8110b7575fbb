"""What is watched of a request, and of whom."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple
from zlib import crc32

from schemas.bundle import Bundle
from schemas.events import WRONG_FORM, Interaction
from services.runtime.conformal import SLOTS


class Stream(NamedTuple):
    """Whose values are compared with one another: a tenant's, a task's, or those of one version of a model in that."""

    tenant: str
    task: str = ""
    model: str = ""
    model_version: str = ""


@dataclass(frozen=True)
class Measure:
    """What is watched.

    Attributes:
        name: As events and dashboards have it.
        aspect: input, output or service.
        scale: The least and the greatest size of numbers that are told apart, logarithmically; none: they are counts.
        categorical: Its values are names.
    """

    name: str
    aspect: str
    scale: tuple[float, float] | None = None
    categorical: bool = False

    def slot(self, value: float | str) -> int:
        """Return which slot of a detector a value falls into; some names may share one."""
        if isinstance(value, str):
            return crc32(value.encode()) % SLOTS
        if self.scale is None:
            return max(0, min(SLOTS - 1, int(value)))
        low, high = self.scale
        place = math.log(max(low, min(high, abs(value))) / low) / math.log(high / low)
        return min(SLOTS - 1, int(place * SLOTS))


TASK_MIX = Measure("task mix", "input", categorical=True)
LANGUAGE = Measure("language", "input", categorical=True)
LENGTH = Measure("length", "input", (1, 1e6))  # of the question, in characters
CLUSTER = Measure("embedding cluster", "input", categorical=True)
DISTANCE = Measure("embedding distance", "input", (1e-3, 2))  # of the question from the nearest cluster
CONFIDENCE = Measure("confidence", "output", (1e-4, 1e2))  # mean log-probability of the answer's tokens
FORMAT = Measure("format failures", "output")
REFUSALS = Measure("refusals", "output")
LATENCY = Measure("latency", "service", (1e-4, 1e3))  # in seconds
ERRORS = Measure("errors", "service")
COST = Measure("cost", "service", (1e-9, 1e3))  # in the unit of the bundle's prices

# What a request that one model was asked for is watched by: one measure of its tenant, seven of its task, six of the
# model.
PER_REQUEST = 14

Observation = tuple[Stream, Measure, float | str]


def unavailable(interaction: Interaction) -> bool:
    """Say whether Gyre is to blame for there being no answer: an error, or a refusal that nobody decided."""
    if interaction.finish_reason != "refused":
        return interaction.finish_reason == "error"
    return not interaction.input_verdict or bool(interaction.model and interaction.output_verdict != "refuse")


def question(interaction: Interaction) -> str:
    """Return the last turn of the user; empty where it is not on record."""
    return next((each.content for each in reversed(interaction.messages) if each.role == "user"), "")


def observations(interaction: Interaction, bundle: Bundle | None) -> Iterator[Observation]:
    """Yield what a request tells, but for its embedding; nothing of one that is not finished.

    Args:
        interaction: As it is on record.
        bundle: Says which tasks want function calls.
    """
    if interaction.phase != "finished":
        return
    task = Stream(interaction.tenant, interaction.task)
    yield Stream(interaction.tenant), TASK_MIX, interaction.task
    if interaction.language:
        yield task, LANGUAGE, interaction.language
    asked = question(interaction)
    if asked:
        yield task, LENGTH, float(len(asked))
    if interaction.finish_reason == "cancelled":
        return  # by the caller: that says nothing of who was to answer
    failed = unavailable(interaction)
    yield task, REFUSALS, float(interaction.finish_reason == "refused" and not failed)
    yield task, ERRORS, float(failed)
    yield task, LATENCY, interaction.total_us / 1e6
    yield from _of_models(interaction, bundle)


def _of_models(interaction: Interaction, bundle: Bundle | None) -> Iterator[Observation]:
    for attempt in interaction.attempts:
        model = Stream(interaction.tenant, interaction.task, attempt.model, attempt.model_version)
        if attempt.outcome == "skipped":
            continue
        yield model, ERRORS, float(attempt.outcome == "failed")
        if attempt.outcome == "failed":
            continue
        yield model, LATENCY, attempt.duration_us / 1e6
        yield model, COST, attempt.cost
        is_kept = attempt.outcome == "answered"
        malformed = attempt.reason == WRONG_FORM or (is_kept and _is_malformed(interaction, bundle))
        yield model, FORMAT, float(malformed)
        if is_kept:
            yield model, REFUSALS, float(interaction.output_verdict == "refuse")
            if interaction.mean_logprob is not None:
                yield model, CONFIDENCE, interaction.mean_logprob


def _is_malformed(interaction: Interaction, bundle: Bundle | None) -> bool:
    if interaction.finish_reason == "length" or any(each.kind == "format" for each in interaction.findings):
        return True
    wanted = bundle.tasks.get(interaction.task) if bundle is not None else None
    if wanted is None or wanted.answers != "function-call" or interaction.finish_reason in ("refused", "tool_calls"):
        return False
    try:
        call = json.loads(interaction.answer)
    except (ValueError, RecursionError):
        return True
    return not isinstance(call, dict) or call.keys() != {"name", "arguments"}
