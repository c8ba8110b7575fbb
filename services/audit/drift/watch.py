"""Watches every tenant, task and model for change."""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from schemas.bundle import Bundle
from schemas.events import Drift, Interaction
from services.audit.drift.clusters import Clusters, Vectors
from services.audit.drift.detector import Change, Detector
from services.audit.drift.measures import (
    CLUSTER,
    DISTANCE,
    PER_REQUEST,
    Measure,
    Observation,
    Stream,
    observations,
    question,
)

METHOD = "conformal e-detector"

Embed = Callable[[Sequence[str]], Vectors]


@dataclass(frozen=True)
class Promise:
    """What an operator wants of the watch.

    Attributes:
        requests_per_false_alarm: Over all streams and measures together, one false alarm in so many requests at most.
        parts: Of a reference: 24 compares each hour of the day with itself, 168 each hour of the week, 1 any time.
        streams: Watched at once; the one that was not heard of for longest makes room.
    """

    requests_per_false_alarm: int
    parts: int
    streams: int

    @property
    def threshold(self) -> float:
        """Values in which one detector may raise one false alarm.

        Each request gives a value to so many detectors, however many streams there are: so the sum of what they may is
        kept by this alone.
        """
        return float(self.requests_per_false_alarm * PER_REQUEST)


@dataclass
class _Watched:
    detectors: dict[str, Detector] = field(default_factory=dict)
    names: dict[tuple[str, int], str] = field(default_factory=dict)  # of slots, by measure
    clusters: Clusters = field(default_factory=Clusters)


class Watch:
    """Detectors by stream and measure. What it knows is lost with the process: it learns what is ordinary anew."""

    def __init__(self, promise: Promise, embed: Embed | None, chance: Callable[[], float]) -> None:
        """Say what is promised.

        Args:
            promise: What the operator wants.
            embed: Static embeddings; none: questions are watched by language and length alone.
            chance: A fresh random number in [0, 1).
        """
        self._promise = promise
        self._embed = embed
        self._chance = chance
        self._streams: OrderedDict[Stream, _Watched] = OrderedDict()

    def observe(self, interaction: Interaction, bundle: Bundle | None) -> list[Drift]:
        """Take in a request, and return what has changed as it shows.

        Args:
            interaction: As it is on record.
            bundle: In force, if any.
        """
        at = interaction.received_at.timestamp()
        part = int(at // 3600) % self._promise.parts
        found = []
        for stream, measure, value in self._observations(interaction, bundle):
            watched, slot = self._watched(stream), measure.slot(value)
            if isinstance(value, str):
                watched.names[measure.name, slot] = value
            detector = watched.detectors.get(measure.name)
            if detector is None:
                detector = watched.detectors[measure.name] = Detector(
                    self._promise.threshold, categorical=measure.categorical, parts=self._promise.parts
                )
            number = float(slot) if isinstance(value, str) else value
            change = detector.observe(slot, number, at, self._chance(), part)
            # Where all values are alike, only the chance that breaks ties can have raised it: there is nothing to tell.
            if change is not None and not math.isclose(change.before, change.after):
                subject = "" if change.slot is None else watched.names.get((measure.name, change.slot), "")
                found.append(self._drift(stream, measure, change, subject, interaction.finished_at))
        return found

    def _observations(self, interaction: Interaction, bundle: Bundle | None) -> Iterator[Observation]:
        yield from observations(interaction, bundle)
        asked = question(interaction)
        if self._embed is None or not asked or interaction.phase != "finished":
            return
        task = Stream(interaction.tenant, interaction.task)
        place = self._watched(task).clusters.place(self._embed([asked])[0])
        if place is not None:
            yield task, CLUSTER, f"cluster {place[0]}"
            yield task, DISTANCE, place[1]

    def _watched(self, stream: Stream) -> _Watched:
        watched = self._streams.get(stream)
        if watched is None:
            watched = self._streams[stream] = _Watched()
            if len(self._streams) > self._promise.streams:
                self._streams.popitem(last=False)
        else:
            self._streams.move_to_end(stream)
        return watched

    def _drift(self, stream: Stream, measure: Measure, change: Change, subject: str, at: datetime) -> Drift:
        return Drift(
            task_key=f"{stream.tenant}/{stream.task}",
            tenant=stream.tenant,
            task=stream.task,
            model=stream.model,
            model_version=stream.model_version,
            measure=measure.name,
            aspect=measure.aspect,
            method=METHOD,
            statistic=change.statistic,
            threshold=self._promise.threshold,
            window_start=datetime.fromtimestamp(change.since, UTC),
            detected_at=at,
            before=change.before,
            after=change.after,
            subject=subject,
            requests=change.values,
        )
