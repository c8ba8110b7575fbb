"""What is told of the trace that something is part of."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry.trace import SpanKind

from schemas.topics import Topic
from services.runtime import tracing
from services.runtime.kafka import Record
from tests.spans import Spans, kept_spans

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"

# In a process of its own: in this one another test may have had spans made, and there is no way back.
WITHOUT_COLLECTOR = f"""
from contextlib import nullcontext
from opentelemetry.trace import SpanKind, INVALID_SPAN
from services.runtime import tracing
assert isinstance(tracing.span("call", ""), nullcontext)
assert isinstance(tracing.within("send", SpanKind.PRODUCER), nullcontext)
assert tracing.started("chat", SpanKind.CLIENT, {{}}) is INVALID_SPAN
assert (tracing.headers(), tracing.record_headers()) == ({{}}, [])
with tracing.span("call", "{TRACEPARENT}"):
    assert tracing.headers() == {{"traceparent": "{TRACEPARENT}"}}
"""


@pytest.fixture
def spans() -> Iterator[Spans]:
    with kept_spans() as kept:
        yield kept


def record(offset: int, traceparent: str) -> Record:
    return Record(Topic.INTERACTIONS, 0, offset, 0, b"k", b"v", traceparent)


def test_without_a_collector_no_span_is_made_and_a_caller_s_trace_is_handed_on() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_COLLECTOR], check=True)


def test_a_record_tells_the_trace_in_which_it_was_sent(spans: Spans) -> None:
    with tracing.span("call", TRACEPARENT):
        headers = tracing.record_headers()
    assert tracing.traceparent_of(headers).split("-")[1] == TRACE_ID
    (span,) = spans.of(int(TRACE_ID, 16))
    assert span.kind is SpanKind.SERVER
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == "00f067aa0ba902b7"


def test_records_of_one_batch_are_spans_of_their_own_traces(spans: Spans) -> None:
    other = TRACE_ID[::-1]
    records = [record(7, TRACEPARENT), record(8, ""), record(9, f"00-{other}-00f067aa0ba902b7-01")]
    tracing.handled("gyre-test", records, began_ns=1)
    for trace_id, offset in ((TRACE_ID, 7), (other, 9)):
        (span,) = spans.of(int(trace_id, 16))
        assert (span.name, span.kind, span.start_time) == ("process router.interactions.v1", SpanKind.CONSUMER, 1)
        assert span.attributes is not None
        assert span.attributes["messaging.kafka.offset"] == offset
        assert span.attributes["messaging.consumer.group.name"] == "gyre-test"


@pytest.mark.parametrize("traceparent", ["nonsense", "00-0-0-0", "\x00\xff"])
def test_a_trace_that_is_none_begins_another(spans: Spans, traceparent: str) -> None:
    with tracing.span("call", traceparent):
        assert tracing.traceparent().startswith("00-")


def test_headers_that_are_no_text_are_no_trace() -> None:
    assert tracing.traceparent_of([("other", b"x"), ("traceparent", b"\xff")]) == "�"
    assert tracing.traceparent_of([]) == ""
