"""Structured logs and Prometheus metrics; `runtime.tracing` has the traces.

Metric names are one list, here, so that a dashboard's author has one place to look. What begins with `gen_ai` has the
names, labels and buckets of OpenTelemetry's conventions for generative AI, written as Prometheus writes them.
"""

import logging
import sys
from functools import cache

import structlog
from prometheus_client import Counter, Gauge, Histogram

from services.runtime import tracing
from services.runtime.scraping import serve_metrics
from services.runtime.settings import TelemetrySettings
from services.runtime.tls import Tls

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

# Whether health says SERVING: 1 or 0.
SERVING = Gauge("gyre_serving", "Whether calls are welcome")
# Every gRPC call that a service answered, by method and status.
RPC_SECONDS = Histogram("gyre_rpc_seconds", "Time to answer a gRPC call", ["method", "code"], buckets=SECONDS)
# Every HTTP request that the router answered, by route and status; for a stream, until its last byte.
HTTP_SECONDS = Histogram("gyre_http_seconds", "Time to answer an HTTP request", ["route", "status"], buckets=SECONDS)
# Calls and requests under way, by gRPC method or HTTP route.
IN_FLIGHT = Gauge("gyre_in_flight_requests", "Calls being answered", ["method"])
in_flight = cache(IN_FLIGHT.labels)  # the client of Prometheus looks a label up again each time, and takes long to
# Of a router's places for requests, those that are taken, in [0, 1]; at 1 it turns others away.
PLACES_TAKEN = Gauge("gyre_places_taken_ratio", "Share of the places for requests that are taken")
# Records that a service took from Kafka and what became of them: handled, passed over, retried, dead-lettered.
RECORDS = Counter("gyre_records_total", "Records taken from Kafka", ["topic", "outcome"])
# Records between the last one handled and the end of the topic, and how old the oldest of them is, as
# `runtime.kafka.Lag` tells it for each consumer: a process may have several.
LAG = Gauge("gyre_lag_records", "Records not handled yet", ["consumer", "topic", "partition"])
LAG_SECONDS = Gauge("gyre_lag_seconds", "Age of the oldest record not handled yet", ["consumer", "topic", "partition"])
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
# The same requests as a server of models tells of them: from arrival until the record of the answer was acknowledged,
# and until the model's first token. Without an answer, `error_type` says how it ended.
_GEN_AI = ["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"]
_GEN_AI_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
GEN_AI_REQUEST_SECONDS = Histogram(
    "gen_ai_server_request_duration_seconds",
    "Time to answer a request, to its last token",
    [*_GEN_AI, "gen_ai_response_model", "error_type"],
    buckets=_GEN_AI_SECONDS,
)
GEN_AI_FIRST_TOKEN_SECONDS = Histogram(
    "gen_ai_server_time_to_first_token_seconds",
    "Time to the first token of an answer",
    [*_GEN_AI, "gen_ai_response_model"],
    buckets=(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
# And the router as a client of models, of which it may ask several for one answer.
GEN_AI_OPERATION_SECONDS = Histogram(
    "gen_ai_client_operation_duration_seconds",
    "Time that a model took",
    [*_GEN_AI, "error_type"],
    buckets=_GEN_AI_SECONDS,
)
GEN_AI_TOKENS = Histogram(
    "gen_ai_client_token_usage",
    "Tokens of a model's prompts (input) and answers (output)",
    [*_GEN_AI, "gen_ai_token_type"],
    buckets=[4**power for power in range(14)],
)
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
        tracing.set_up(service, settings.otlp_endpoint, tls)


def log_refused(port: str, found: frozenset[str]) -> None:
    """Log that somebody with a certificate may not ask here."""
    log().warning("caller refused", port=port, reason="not one of those who may ask here", caller=sorted(found))


def log() -> structlog.stdlib.BoundLogger:
    """Return the logger. Values are fields, never part of the text."""
    return structlog.get_logger()  # type: ignore[no-any-return] # structlog types it as Any
