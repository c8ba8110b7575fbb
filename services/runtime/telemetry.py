"""Structured logs, Prometheus metrics and OpenTelemetry traces.

Metric names are one list, here, so that a dashboard's author has one place to look.
"""

import logging
import socket
import ssl
import sys
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from http.server import ThreadingHTTPServer
from typing import Any

import grpc
import structlog
from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind
from prometheus_client import Counter, Gauge, Histogram, MetricsHandler, start_http_server

from services.runtime import edges
from services.runtime.settings import TelemetrySettings
from services.runtime.tls import Renewed, Tls, peer_identities

# A scrape that takes longer is given up.
_SCRAPE_SECONDS = 10.0
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

# Every gRPC call that a service answered, by method and status.
RPC_SECONDS = Histogram("gyre_rpc_seconds", "Time to answer a gRPC call", ["method", "code"], buckets=SECONDS)
# Every HTTP request that the router answered, by route and status; for a stream, until its last byte.
HTTP_SECONDS = Histogram("gyre_http_seconds", "Time to answer an HTTP request", ["route", "status"], buckets=SECONDS)
# Records that a service took from Kafka and what became of them: handled, passed over, retried, dead-lettered.
RECORDS = Counter("gyre_records_total", "Records taken from Kafka", ["topic", "outcome"])
# Records between the last one handled and the end of the topic.
LAG = Gauge("gyre_lag_records", "Records not handled yet", ["topic", "partition"])
# Chains that audit signs: rows that no checkpoint covers yet, and whether one is not what was signed before.
UNSIGNED = Gauge("gyre_unsigned_rows", "Rows that no checkpoint covers", ["topic", "partition"])
BROKEN_CHAINS = Gauge("gyre_broken_chains", "1 where a chain is not what was signed", ["topic", "partition"])
# Requests through the router by how they ended, and the time each function of the pipeline took.
REQUESTS = Counter("gyre_requests_total", "Requests answered or refused", ["tenant", "task", "model", "finish_reason"])
STAGE_SECONDS = Histogram("gyre_stage_seconds", "Time in one function of the pipeline", ["stage"], buckets=SECONDS)
# Models that were asked for an answer: answered, failed, unsure, skipped.
ATTEMPTS = Counter("gyre_attempts_total", "Models asked for an answer", ["upstream", "model", "outcome"])
# Requests that a specialist in the shadow was to be asked, too: answered, failed, left out.
SHADOWED = Counter("gyre_shadowed_total", "Requests for specialists in the shadow", ["tenant", "task", "outcome"])
# Requests that the router did not let in, by application (of a replica that is full: none) and reason.
TURNED_AWAY = Counter("gyre_turned_away_total", "Requests not let in", ["application", "reason"])
# Changes that audit found, and alerts of objectives, by state: detected, firing, cleared.
DRIFTS = Counter("gyre_drifts_total", "Changes found", ["tenant", "task", "model", "measure", "state"])
# How fast error budgets burn over a rule's long window (1: they last just as long as the objective is for), and whether
# that is an alert: 1 or 0. Each replica of audit tells it of the requests that it watches.
BURN_RATES = Gauge(
    "gyre_objective_burn_rate", "Burn rate of the error budget", ["tenant", "task", "application", "objective", "rule"]
)
ALERTS = Gauge(
    "gyre_objective_alert", "Whether it burns too fast", ["tenant", "task", "application", "objective", "rule"]
)
# Measures of a live specialist that have changed within a day after it went live.
DEPLOYMENT_DRIFTS = Gauge(
    "gyre_deployment_drifts", "Measures changed soon after going live", ["tenant", "task", "candidate_id"]
)
# When the certificate ends that this process shows to others; 0 without TLS.
CERTIFICATE_EXPIRES = Gauge("gyre_certificate_expires_seconds", "When the own certificate ends, as Unix time")
# Experts' queue.
OPEN_ITEMS = Gauge("gyre_open_items", "Edge cases waiting for an expert", ["tenant", "task"])


def set_up_logs(settings: TelemetrySettings) -> None:
    """Configure logging of this process. Called once, by `services.runtime.service`, before anything can be logged."""
    logging.basicConfig(level=settings.log_level, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer()
            if settings.log_format == "console"
            else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings.log_level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def set_up(service: str, settings: TelemetrySettings, host: str, metrics_port: int, tls: Tls | None) -> None:
    """Configure metrics and traces of this process, and name the service in its logs. Called once, as `set_up_logs`."""
    structlog.contextvars.bind_contextvars(service=service)
    if tls is not None:
        CERTIFICATE_EXPIRES.set_function(lambda: tls.current().expires)
    if metrics_port:
        serve_metrics(service, host, metrics_port, tls)
    if settings.otlp_endpoint:
        provider = TracerProvider(resource=Resource.create({"service.name": f"gyre-{service}"}))
        provider.add_span_processor(BatchSpanProcessor(Exporter(settings.otlp_endpoint, tls)))
        trace.set_tracer_provider(provider)


def serve_metrics(service: str, host: str, port: int, tls: Tls | None) -> None:
    """Answer who scrapes, in threads of its own; with TLS, Prometheus alone."""
    if tls is None:
        start_http_server(port, addr=host)
        return
    server = _MetricsServer(host, port, tls, edges.callers(service, "metrics"))
    threading.Thread(target=server.serve_forever, daemon=True).start()


class _MetricsServer(ThreadingHTTPServer):
    """Answers Prometheus.

    prometheus_client's own takes any certificate of the CA, never renews its own, and does one handshake at a time.
    """

    daemon_threads = True

    def __init__(self, host: str, port: int, tls: Tls, callers: frozenset[str]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._context = tls.server_context(mutual=True)
        self._callers = callers
        super().__init__((host, port), _MetricsHandler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Answer a caller who may ask; within the caller's own thread."""
        request.settimeout(_SCRAPE_SECONDS)
        with self._context.wrap_socket(request, server_side=True) as connection:
            found = peer_identities(connection)
            if found & self._callers:
                super().finish_request(connection, client_address)
            else:
                log_refused("metrics", found)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log why a connection came to nothing."""
        error = sys.exc_info()[1]
        reason = error.reason if isinstance(error, ssl.SSLError) else str(error)
        log().warning("connection closed", port="metrics", reason=reason)


class _MetricsHandler(MetricsHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Log no scrape."""


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


def log_refused(port: str, found: frozenset[str]) -> None:
    """Log that somebody with a certificate may not ask here."""
    log().warning("caller refused", port=port, reason="not one of those who may ask here", caller=sorted(found))


def span(name: str, traceparent: str) -> AbstractContextManager[object]:
    """Return the span of a call that a service answers, in its caller's trace (W3C Trace Context; empty: of none)."""
    if not traceparent and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return nullcontext()  # nobody asked for traces, and not to make one costs much less
    caller = propagate.extract({"traceparent": traceparent})
    return trace.get_tracer("gyre").start_as_current_span(name, caller, SpanKind.SERVER)


def log() -> structlog.stdlib.BoundLogger:
    """Return the logger. Values are fields, never part of the text."""
    return structlog.get_logger()  # type: ignore[no-any-return] # structlog types it as Any
