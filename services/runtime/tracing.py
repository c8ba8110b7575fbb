"""Traces: one goes from an application's call through every service and, with records, through Kafka to who reads them.

W3C Trace Context carries it: in HTTP headers, gRPC metadata, `runtime.exchange` and the headers of Kafka's records.
Without a collector (`GYRE_TELEMETRY_OTLP_ENDPOINT`) no spans are made; a trace that a caller began is handed on all the
same. Names and attributes are those of OpenTelemetry's semantic conventions.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import grpc
from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Span, SpanKind

from services.runtime.tls import Renewed, Tls

_HEADER = "traceparent"
_TRACER = trace.get_tracer("gyre")


class _Record(Protocol):
    """A record of Kafka's, as `runtime.kafka` reads it."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def traceparent(self) -> str: ...


def set_up(service: str, endpoint: str, tls: Tls | None) -> None:
    """Have spans made and sent to a collector at host:port."""
    provider = TracerProvider(resource=Resource.create({"service.name": f"gyre-{service}"}))
    provider.add_span_processor(BatchSpanProcessor(Exporter(endpoint, tls)))
    trace.set_tracer_provider(provider)


class Exporter(SpanExporter):
    """Sends spans to a collector, with the certificate as it is then."""

    def __init__(self, endpoint: str, tls: Tls | None) -> None:
        def make(credentials: grpc.ChannelCredentials | None) -> OTLPSpanExporter:
            return OTLPSpanExporter(endpoint, insecure=credentials is None, credentials=credentials)

        self._exporters = Renewed(tls, make)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans."""
        return self._exporters.current().export(spans)

    def shutdown(self) -> None:
        """End the connections."""
        for exporter in self._exporters.made:
            exporter.shutdown()


def traceparent() -> str:
    """Return the trace that this is part of, as others are told it; empty: none."""
    if not trace.get_current_span().get_span_context().is_valid:
        return ""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier.get(_HEADER, "")


def headers() -> dict[str, str]:
    """Return what a call to another server says of the trace that it is part of."""
    parent = traceparent()
    return {_HEADER: parent} if parent else {}


def record_headers() -> list[tuple[str, bytes]]:
    """Return what a record says of the trace that it is part of."""
    parent = traceparent()
    return [(_HEADER, parent.encode())] if parent else []


def traceparent_of(headers: Iterable[tuple[str, bytes]]) -> str:
    """Return what a record's headers say of its trace; empty: nothing."""
    return next((value.decode("ascii", "replace") for name, value in headers if name == _HEADER), "")


def span(name: str, caller: str, kind: SpanKind = SpanKind.SERVER) -> AbstractContextManager[object]:
    """Return the span of a call, or a record, that a service handles.

    Args:
        name: Of the span.
        caller: Its caller's trace, as `traceparent` tells it; empty: it begins one.
        kind: Of the span.
    """
    if not caller and not _are_made():
        return nullcontext()  # nobody asked for traces, and not to make one costs much less
    return _TRACER.start_as_current_span(name, propagate.extract({_HEADER: caller}), kind)


def within(name: str, kind: SpanKind) -> AbstractContextManager[object]:
    """Return a span of the trace that this is part of; of none, nothing."""
    if not trace.get_current_span().is_recording():
        return nullcontext()
    return _TRACER.start_as_current_span(name, kind=kind)


def started(name: str, kind: SpanKind, attributes: Mapping[str, str | int]) -> Span:
    """Return a span that is `end`ed by hand, where it spans no block; `inside` steps into it."""
    if not trace.get_current_span().get_span_context().is_valid:
        return trace.INVALID_SPAN
    return _TRACER.start_span(name, kind=kind, attributes=attributes)


def inside(span: Span) -> AbstractContextManager[object]:
    """Return what makes a span the one that this is part of."""
    if not span.is_recording():
        return nullcontext()
    return trace.use_span(span, record_exception=False, set_status_on_exception=False)


def handled(group: str, records: Sequence[_Record], began_ns: int) -> None:
    """Make the spans of records that a group handled as a batch: each in its own trace, all of the batch's time.

    Args:
        group: Of the consumer.
        records: Of one partition. Those that are part of no trace get no span.
        began_ns: When it began, as `time.time_ns` tells it.
    """
    if not _are_made():
        return
    ended_ns = time.time_ns()
    for record in records:
        if record.traceparent:
            _TRACER.start_span(
                f"process {record.topic}",
                propagate.extract({_HEADER: record.traceparent}),
                SpanKind.CONSUMER,
                {
                    "messaging.system": "kafka",
                    "messaging.operation.name": "process",
                    "messaging.operation.type": "process",
                    "messaging.consumer.group.name": group,
                    "messaging.destination.name": str(record.topic),
                    "messaging.destination.partition.id": str(record.partition),
                    "messaging.kafka.offset": record.offset,
                    "messaging.batch.message_count": len(records),
                },
                start_time=began_ns,
            ).end(ended_ns)


def _are_made() -> bool:
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
