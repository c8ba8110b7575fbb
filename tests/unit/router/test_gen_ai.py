"""What the metrics of OpenTelemetry's conventions for generative AI are told of requests and models."""

from collections.abc import Mapping

import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from prometheus_client import REGISTRY, Histogram

from services.router.domain.errors import Refused
from services.runtime import telemetry
from services.runtime.errors import Retryable
from tests.unit.router.fakes import DENIED, Stack, ask

SERVER = "gen_ai_server_request_duration_seconds"
FIRST_TOKEN = "gen_ai_server_time_to_first_token_seconds"
CLIENT = "gen_ai_client_operation_duration_seconds"
TOKENS = "gen_ai_client_token_usage"
SMALL = {
    "gen_ai_operation_name": "chat",
    "gen_ai_provider_name": "triton",
    "gen_ai_request_model": "small",
}


class Told:
    """What is told from when this was made."""

    def __init__(self) -> None:
        self._before = self._now()

    def of(self, series: str, labels: Mapping[str, str]) -> float:
        key = (series, frozenset(labels.items()))
        return self._now().get(key, 0.0) - self._before.get(key, 0.0)

    @staticmethod
    def _now() -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in REGISTRY.collect()
            for sample in family.samples
        }


def test_the_names_are_those_of_the_conventions() -> None:
    units = {"gen_ai.client.token.usage": ""}
    known = {
        f"{name.replace('.', '_')}{units.get(name, '_seconds')}"
        for name in vars(gen_ai_metrics).values()
        if isinstance(name, str) and name.startswith("gen_ai.")
    }
    attributes = {
        name.replace(".", "_")
        for name in vars(gen_ai_attributes).values()
        if isinstance(name, str) and name.startswith("gen_ai.")
    }
    ours = [each for each in vars(telemetry).values() if isinstance(each, Histogram) and "gen_ai" in each._name]
    assert len(ours) == 4
    for metric in ours:
        assert metric._name in known
        assert {*metric._labelnames} <= attributes | {"error_type"}


async def test_an_answer_is_told_with_its_times_and_tokens() -> None:
    stack, told = Stack(), Told()
    stack.models.seconds_a_piece = 0.5
    await stack.router.complete(stack.call(), ask("Hi", model="small"))
    answered = {**SMALL, "gen_ai_response_model": "small"}
    assert told.of(f"{SERVER}_count", {**answered, "error_type": ""}) == 1
    assert told.of(f"{SERVER}_sum", {**answered, "error_type": ""}) == pytest.approx(1.0)
    assert told.of(f"{FIRST_TOKEN}_sum", answered) == pytest.approx(0.5)
    assert told.of(f"{CLIENT}_sum", {**SMALL, "error_type": ""}) == pytest.approx(1.0)
    assert told.of(f"{TOKENS}_sum", {**SMALL, "gen_ai_token_type": "input"}) == 11
    assert told.of(f"{TOKENS}_sum", {**SMALL, "gen_ai_token_type": "output"}) == 2


async def test_who_names_no_model_asked_for_auto() -> None:
    stack, told = Stack(), Told()
    await stack.router.complete(stack.call(), ask("Hi"))
    labels = {**SMALL, "gen_ai_request_model": "auto", "gen_ai_response_model": "small", "error_type": ""}
    assert told.of(f"{SERVER}_count", labels) == 1


async def test_a_refused_request_is_told_as_that_and_has_no_first_token() -> None:
    stack, told = Stack(), Told()
    with pytest.raises(Refused):
        await stack.router.complete(stack.call(), ask(f"Tell me {DENIED}", model="small"))
    nobody = {**SMALL, "gen_ai_provider_name": "", "gen_ai_response_model": ""}
    assert told.of(f"{SERVER}_count", {**nobody, "error_type": "refused"}) == 1
    assert told.of(f"{FIRST_TOKEN}_count", nobody) == 0


async def test_each_time_that_a_model_fails_is_told_with_the_kind_of_its_failure() -> None:
    stack, told = Stack(), Told()
    stack.models.failing = {"small-llm": [Retryable("away")]}
    await stack.router.complete(stack.call(), ask("Hi", model="small"))
    assert told.of(f"{CLIENT}_count", {**SMALL, "error_type": "Retryable"}) == 1
    assert told.of(f"{CLIENT}_count", {**SMALL, "error_type": ""}) == 1


async def test_an_answer_that_its_caller_does_not_wait_for_is_told_as_cancelled() -> None:
    stack, told = Stack(), Told()
    stack.models.pieces = ["word " * 60, "never"]
    stack.models.hangs_after = 1
    stream = stack.router.stream(stack.call(), ask("Hi", model="small"))
    await anext(stream)
    await stream.aclose()
    await stack.router.drain()
    answered = {**SMALL, "gen_ai_response_model": "small"}
    assert told.of(f"{SERVER}_count", {**answered, "error_type": "cancelled"}) == 1
    assert told.of(f"{CLIENT}_count", {**SMALL, "error_type": "cancelled"}) == 1
