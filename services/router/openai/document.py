"""The OpenAPI document of the HTTP edge. Bodies are described by the types that read and write them."""

from typing import Any

import msgspec

from services.router.edge import IDEMPOTENCY_KEY, MAX_IDEMPOTENCY_KEY
from services.router.openai.answers import ChatCompletion, Chunk, Failure, FeedbackGiven, Health, Models
from services.router.openai.requests import MAX_NAME, ChatRequest, FeedbackRequest

_FAILURES = {
    400: "A field is not what was wanted, or asks for what the router cannot do; `param` names it",
    401: "No application key, or one that nobody has",
    403: "Refused: a verdict of governance, or no model is cleared for the request",
    404: "No such task or model",
    413: "The body is over 4 MiB",
    422: "The idempotency key came with another body before",
    429: "The application or its tenant has used up what it may; `Retry-After` says when to come back, in seconds",
    500: "Unexpected; the router's log has the request's id",
    503: "Something needed does not answer; the same request may work later",
    504: "The deadline of the request has passed",
}


def document() -> dict[str, Any]:
    """Return the document, version 3.1 of https://spec.openapis.org/oas/."""
    kinds = [ChatRequest, FeedbackRequest, ChatCompletion, Chunk, FeedbackGiven, Models, Health, Failure]
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    described = dict(zip(kinds, schemas, strict=True))

    def answers(kind: type[msgspec.Struct], *failures: int, **streamed: Any) -> dict[str, Any]:
        responses = {"200": _response("The answer", {"application/json": {"schema": described[kind]}, **streamed})}
        for status in failures:
            responses[str(status)] = _response(_FAILURES[status], {"application/json": {"schema": described[Failure]}})
        return responses

    def takes(kind: type[msgspec.Struct]) -> dict[str, Any]:
        return {"required": True, "content": {"application/json": {"schema": described[kind]}}}

    task = _header("x-gyre-task", "What the request is for, unless `metadata.task` says it", {"maxLength": MAX_NAME})
    again = _header(
        IDEMPOTENCY_KEY,
        "The same key with the same body, ten minutes long, gets the same answer; not for streams",
        {"pattern": "^[!-~]+$", "maxLength": MAX_IDEMPOTENCY_KEY},
    )
    # OpenAPI 3.1 has no word for the data of server-sent events: `Chunk` describes each.
    events = {"text/event-stream": {"schema": {"type": "string", "contentSchema": described[Chunk]}}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Gyre router",
            "version": "1",
            "description": "OpenAI's chat completions, and what applications have to say of answers.",
        },
        "paths": {
            "/v1/chat/completions": {
                "post": {
                    "operationId": "complete",
                    "summary": "Answer a request, once the record of it is acknowledged",
                    "parameters": [task, again],
                    "requestBody": takes(ChatRequest),
                    "responses": answers(ChatCompletion, 400, 401, 403, 404, 413, 422, 429, 500, 503, 504, **events),
                }
            },
            "/v1/feedback": {
                "post": {
                    "operationId": "sendFeedback",
                    "summary": "Say how good an answer was: exactly one of rating, edit, correct_answer, outcome",
                    "parameters": [again],
                    "requestBody": takes(FeedbackRequest),
                    "responses": answers(FeedbackGiven, 400, 401, 403, 413, 422, 500, 503),
                }
            },
            "/v1/models": {
                "get": {
                    "operationId": "listModels",
                    "summary": "List what may be written as the model",
                    "responses": answers(Models, 401, 500, 503),
                }
            },
            "/healthz": {
                "get": {
                    "operationId": "health",
                    "summary": "Say whether requests are welcome",
                    "security": [],
                    "responses": answers(Health, 500, 503),
                }
            },
        },
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "The application's key"}},
        },
        "security": [{"key": []}],
    }


def _header(name: str, description: str, bounds: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": description, "schema": {"type": "string", **bounds}}


def _response(description: str, content: dict[str, Any]) -> dict[str, Any]:
    request_id = {"description": "The request's id", "required": True, "schema": {"type": "string", "format": "uuid"}}
    return {"description": description, "headers": {"x-request-id": request_id}, "content": content}
