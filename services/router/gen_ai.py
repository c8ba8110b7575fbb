"""What OpenTelemetry's conventions for generative AI want told, of requests and of each time that a model is asked.

https://opentelemetry.io/docs/specs/semconv/gen-ai; the provider is the upstream, by the bundle's name for it.
"""

from functools import cache

from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from schemas.prompts import Generated
from services.router.domain.catalogue import AUTO, Candidate
from services.router.journal import Journal
from services.runtime import telemetry, tracing

_OPERATION = "chat"
_UNANSWERED = frozenset({"refused", "error", "cancelled"})

# The client of Prometheus looks a label up again each time, and takes long to.
_request_seconds = cache(telemetry.GEN_AI_REQUEST_SECONDS.labels)
_first_token_seconds = cache(telemetry.GEN_AI_FIRST_TOKEN_SECONDS.labels)
_operation_seconds = cache(telemetry.GEN_AI_OPERATION_SECONDS.labels)
_tokens = cache(telemetry.GEN_AI_TOKENS.labels)


def answered(journal: Journal, seconds: float) -> None:
    """Count a request that has ended.

    Args:
        journal: Of the request.
        seconds: Since it arrived.
    """
    model = journal.model
    names = (
        _OPERATION,
        model.upstream_name if model else "",
        journal.asked_for or AUTO,
        model.name if model else "",
    )
    error_type = journal.finish_reason if journal.finish_reason in _UNANSWERED else ""
    _request_seconds(*names, error_type).observe(seconds)
    if journal.first_token_us and not error_type:
        _first_token_seconds(*names).observe(journal.first_token_us / 1e6)


def asking(journal: Journal, candidate: Candidate) -> Span:
    """Return the span of a model's answer, begun."""
    return tracing.started(
        f"{_OPERATION} {candidate.name}",
        SpanKind.CLIENT,
        {
            "gen_ai.operation.name": _OPERATION,
            "gen_ai.provider.name": candidate.upstream_name,
            "gen_ai.request.model": candidate.name,
            "gyre.request_id": journal.call.request_id,
        },
    )


def asked(span: Span, candidate: Candidate, generated: Generated | None, error_type: str, seconds: float) -> None:
    """End the span of a model's answer, and count it.

    Args:
        span: As `asking` returned it.
        candidate: Who was asked.
        generated: How the answer ended; None where it did not.
        error_type: What kept it from ending; empty: nothing.
        seconds: It took.
    """
    names = (_OPERATION, candidate.upstream_name, candidate.name)
    _operation_seconds(*names, error_type).observe(seconds)
    if generated is not None:
        _tokens(*names, "input").observe(generated.prompt_tokens)
        _tokens(*names, "output").observe(generated.completion_tokens)
    if span.is_recording():
        if generated is not None:
            span.set_attributes(
                {
                    "gen_ai.response.model": candidate.name,
                    "gen_ai.response.finish_reasons": [generated.finish_reason],
                    "gen_ai.usage.input_tokens": generated.prompt_tokens,
                    "gen_ai.usage.output_tokens": generated.completion_tokens,
                    "gyre.model_version": generated.model_version,
                }
            )
        if error_type:
            span.set_attribute("error.type", error_type)
            span.set_status(Status(StatusCode.ERROR))
    span.end()
