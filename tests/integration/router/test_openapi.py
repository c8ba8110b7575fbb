"""The router's HTTP edge is what its OpenAPI document says: schemathesis generates requests from it, good and bad."""

import asyncio
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks

from tests.router_on_fakes import RouterOnFakes
from tests.unit.router.fakes import KEY

CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.missing_required_header,
]
# Not `positive_data_acceptance`: which tasks and models there are, and that one message is the user's, no schema says.
CHECKS_BY_MODE = {GenerationMode.POSITIVE: CHECKS, GenerationMode.NEGATIVE: [*CHECKS, checks.negative_data_rejection]}


@pytest.mark.parametrize(
    ("mode", "operations"),
    [
        (GenerationMode.POSITIVE, ["/healthz", "/v1/chat/completions", "/v1/feedback", "/v1/models"]),
        (GenerationMode.NEGATIVE, ["/v1/chat/completions", "/v1/feedback"]),  # the others take nothing
    ],
)
async def test_no_request_that_the_document_tells_of_finds_a_failure(
    served: RouterOnFakes, mode: GenerationMode, operations: list[str]
) -> None:
    def run() -> list[str]:
        document = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
        found = [result.ok() for result in document.get_all_operations()]
        fuzzed = [operation for operation in found if operation.path in operations]
        for operation in fuzzed:
            fuzz(operation, mode)
        return sorted(operation.path for operation in fuzzed)

    assert await asyncio.to_thread(run) == operations
    answered = [record for record in served.stack.recorder.interactions if record.finish_reason == "stop"]
    assert bool(answered) is (mode is GenerationMode.POSITIVE)


def fuzz(operation: Any, mode: GenerationMode) -> None:
    @given(case=operation.as_strategy(generation_mode=mode), is_known=st.booleans())
    @settings(max_examples=40, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    def check(case: Any, is_known: bool) -> None:
        if is_known and mode is GenerationMode.POSITIVE and operation.path == "/v1/chat/completions":
            name_what_there_is(case)
        case.call_and_validate(headers={"authorization": f"Bearer {KEY}"}, checks=CHECKS_BY_MODE[mode], timeout=10)

    check()


def name_what_there_is(case: Any) -> None:
    """Have a request get further than the edge: no schema says which tasks and models there are."""
    case.headers.pop("x-gyre-task", None)
    metadata = case.body.get("metadata") or {}
    case.body = {
        **case.body,
        "model": "auto",
        "metadata": {**metadata, "task": ""},
        "messages": [*case.body["messages"], {"role": "user", "content": "Hi"}],
    }


async def test_the_document_names_every_field_that_the_edge_takes(served: RouterOnFakes) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{served.url}/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    chat = answer.json()["components"]["schemas"]["ChatRequest"]
    assert chat["additionalProperties"] is False
    assert {"messages", "tool_choice", "response_format", "metadata"} <= set(chat["properties"])
