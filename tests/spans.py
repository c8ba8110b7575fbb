"""The spans that this process makes, kept in memory."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class Spans:
    """Those that have ended within the block."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    def of(self, trace_id: int) -> Sequence[ReadableSpan]:
        """Return those of one trace, in the order of their ends."""
        return [span for span in self._exporter.get_finished_spans() if span.context.trace_id == trace_id]


@contextmanager
def kept_spans() -> Iterator[Spans]:
    """Have spans made from here on: a process cannot go back to making none."""
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield Spans(exporter)
    exporter.shutdown()
