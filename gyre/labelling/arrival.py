"""What of a file is new here, as the events that it becomes, and telling them.

What is imported becomes labels of the kind `imported`, under ids that are made from what they say, so that who imports
twice says the same twice. A request that no expert was asked about here gets an edge case before them, marked
`imported`: the trainer learns from it, and triage is to ask nobody about it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Protocol

from gyre.labelling.form import GivenLabel, InvalidItemError, LabelledRequest
from gyre.labelling.record import Known
from schemas.bundle import Bundle
from schemas.codecs import codec
from schemas.events import EdgeCase, Event, Label
from schemas.labels import Kind
from schemas.topics import Topic
from services.runtime.calls import call_error
from services.runtime.kafka import MAX_RECORD_BYTES, Producer
from services.triage.domain.deltas import delta

# Of requests: looked up at once, and told at once.
BATCH = 200


@dataclass(frozen=True)
class Arrival:
    """What an item of a file becomes.

    Attributes:
        place: Of the item in the file.
        edge_case: Of a request that no expert was asked about here.
        labels: Those that are new.
        known: How many are on record.
        settled: How many are left out, for a lead has decided where they come from.
    """

    place: str
    edge_case: EdgeCase | None
    labels: tuple[Label, ...]
    known: int
    settled: int


@dataclass(frozen=True)
class Refused:
    """An item that cannot be imported, and what is wrong with it: each problem names the field."""

    place: str
    problems: tuple[str, ...]


class Knows(Protocol):
    """What `gyre.labelling.record.Record` is needed for."""

    def known(self, request_ids: list[str]) -> dict[str, Known]:
        """Return what is on record of requests."""


@dataclass
class Customs:
    """Looks at what comes in, item by item.

    Attributes:
        record: What is there already.
        bundle: In force.
        now: Time of labels that have none.
    """

    record: Knows
    bundle: Bundle
    now: datetime
    _seen: set[str] = field(default_factory=set)  # ids of edge cases and labels of this file

    def arrivals(self, items: Iterable[tuple[str, LabelledRequest | InvalidItemError]]) -> Iterator[Arrival | Refused]:
        """Yield what becomes of each item of a file. Raises `RecordError`."""
        rest = iter(items)
        while batch := list(islice(rest, BATCH)):
            ids = {item.id for _, item in batch if isinstance(item, LabelledRequest)}
            known = self.record.known(sorted(ids)) if ids else {}
            for place, item in batch:
                if isinstance(item, InvalidItemError):
                    yield Refused(place, tuple(item.problems))
                    continue
                try:
                    yield self._arrival(place, item, known[item.id])
                except InvalidItemError as error:
                    yield Refused(place, tuple(error.problems))

    def _arrival(self, place: str, request: LabelledRequest, known: Known) -> Arrival:
        if problems := self._problems(request, known):
            raise InvalidItemError(problems)
        decisions = [label for label in request.labels if label.kind == "adjudication"]
        # What a lead has settled is settled here too: the others would dispute it anew.
        said = [max(decisions, key=lambda label: label.labelled_at or self.now)] if decisions else request.labels
        new = {
            request.label_id(label): label for label in said if not any(label.is_that(each) for each in known.labels)
        }
        labels = tuple(self._label(request, known, *each) for each in new.items() if each[0] not in self._seen)
        is_new = bool(labels) and not known.is_case and request.id not in self._seen
        edge_case = self._edge_case(request, known) if is_new else None
        for topic, event in ((Topic.EDGE_CASES, edge_case), *((Topic.LABELS, label) for label in labels)):
            if event is not None and (size := len(codec(topic).encode(event))) > MAX_RECORD_BYTES:
                raise InvalidItemError([f"wanted at most {MAX_RECORD_BYTES} bytes, got {size}"])
        self._seen.update(new, [request.id])
        return Arrival(place, edge_case, labels, len(said) - len(labels), len(request.labels) - len(said))

    def _problems(self, request: LabelledRequest, known: Known) -> list[str]:
        task = self.bundle.tasks.get(request.task)
        if task is None or task.tenant != request.tenant:
            return [f"task: {request.tenant}/{request.task} is not in bundle {self.bundle.version}"]
        if known.erased:
            return [f"request_id: {request.id} was erased, and is not to come back"]
        if known.tenant and (known.tenant, known.task) != (request.tenant, request.task):
            return [f"request_id: {request.id} is on record as {known.tenant}/{known.task}'s"]
        if not self.bundle.wants_call(request.task):
            return []
        tools = [tool.tool() for tool in request.tools]
        return [
            f"labels[{number}].answer: wanted a call of one of the request's tools; {problem}"
            for number, label in enumerate(request.labels)
            if label.answer and (problem := call_error(label.answer, tools))
        ]

    def _label(self, request: LabelledRequest, known: Known, label_id: str, said: GivenLabel) -> Label:
        edits, distance = delta(request.answer, said.answer) if said.outcome == "corrected" else ((), 0.0)
        return Label(
            label_id=label_id,
            request_id=request.id,
            tenant=request.tenant,
            task=request.task,
            expert=said.expert,
            labelled_at=said.labelled_at or self.now,
            outcome=said.outcome,
            kind=Kind.IMPORTED,
            guideline_version=said.guideline_version,
            answer=said.answer,
            model_answer=request.answer,
            delta=edits,
            distance=distance,
            comment=said.comment,
            seconds_spent=said.seconds_spent,
            sensitivity=max(request.sensitivity, known.sensitivity, key=lambda each: each.level),
            bundle_version=self.bundle.version,
        )

    def _edge_case(self, request: LabelledRequest, known: Known) -> EdgeCase:
        return EdgeCase(
            request_id=request.id,
            tenant=request.tenant,
            task=request.task,
            flagged_at=self.now,
            score=0.0,
            threshold=0.0,
            explored=False,
            propensity=0.0,  # nobody picked it
            messages=tuple(turn.message() for turn in request.messages),
            tools=tuple(tool.tool() for tool in request.tools),
            answer=request.answer,
            model=request.model,
            model_version=request.model_version,
            sensitivity=max(request.sensitivity, known.sensitivity, key=lambda each: each.level),
            bundle_version=self.bundle.version,
            imported=True,
        )


async def tell(arrivals: Iterable[Arrival], producer: Producer, told: Callable[[int], None]) -> None:
    """Write what is new: of each request the edge case, and its labels once that is acknowledged.

    Args:
        arrivals: In the order of the file.
        producer: To Kafka.
        told: Told the labels that were acknowledged, some at a time.

    Raises:
        Retryable: Kafka did not acknowledge. Told again, what was written is the same.
    """
    rest = iter(arrivals)
    while batch := list(islice(rest, BATCH)):
        cases: list[tuple[Topic, Event]] = [
            (Topic.EDGE_CASES, each.edge_case) for each in batch if each.edge_case is not None
        ]
        labels: list[tuple[Topic, Event]] = [(Topic.LABELS, label) for each in batch for label in each.labels]
        for records in (cases, labels):
            await asyncio.gather(*(producer.send(topic, event) for topic, event in records))
        told(len(labels))
