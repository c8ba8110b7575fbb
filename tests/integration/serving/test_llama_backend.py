"""The backend on a real Triton with the real base model."""

import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tritonclient.grpc.aio import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from services.serving.gguf import write_adapter
from services.serving.llama_backend import write_model_version

# The first test of a run may have to make the models and to start Triton.
pytestmark = pytest.mark.timeout(600)

MODEL = "backend-test"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
LONG_STORY = [{"role": "user", "content": "Tell a long story about a bear."}]
LOAD_SECONDS = 120.0


@pytest.fixture(scope="module")
def adapter_gguf(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter with weights strong enough to change every token's probability."""
    folder = tmp_path_factory.mktemp("adapter")
    rng = np.random.default_rng(0)
    module = "base_model.model.model.layers.15.mlp.down_proj"
    weights = {"lora_A": rng.normal(size=(4, 1536)) * 0.05, "lora_B": rng.normal(size=(576, 4)) * 0.05}
    save_file(
        {f"{module}.{half}.weight": each.astype(np.float32) for half, each in weights.items()}, folder / "a.safetensors"
    )
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8}))
    write_adapter(folder, models / "base", folder / "adapter.gguf")
    return folder / "adapter.gguf"


@pytest.fixture
async def client(triton: tuple[str, Path], models: Path, adapter_gguf: Path) -> AsyncIterator[InferenceServerClient]:
    address, repository = triton
    if not (repository / MODEL).exists():
        for version, adapter in ((1, None), (2, adapter_gguf)):
            write_model_version(
                repository,
                MODEL,
                version,
                base_gguf=models / "base.Q8_0.gguf",
                adapter_gguf=adapter,
                parallel=2,
                context_tokens=1024,
            )
    async with InferenceServerClient(address) as client:
        await client.load_model(MODEL, client_timeout=LOAD_SECONDS)
        yield client


def _input(name: str, kind: str, value: Any) -> InferInput:
    tensor = InferInput(name, [1], kind)
    tensor.set_data_from_numpy(np.array([value], dtype=np.object_ if kind == "BYTES" else np.bool_))
    return tensor


def _ask(
    client: InferenceServerClient, text: str | bytes, version: str = "1", stream: bool = False, **sampling: Any
) -> Any:
    """Triton's responses to one request, as (result, error); they can be cancelled."""

    async def requests() -> AsyncIterator[dict[str, Any]]:
        yield {
            "model_name": MODEL,
            "model_version": version,
            "inputs": [
                _input("text_input", "BYTES", text),
                _input("stream", "BOOL", stream),
                _input("sampling_parameters", "BYTES", json.dumps(sampling)),
            ],
        }

    return client.stream_infer(requests())


async def _answer(client: InferenceServerClient, messages: Any, **options: Any) -> tuple[str, dict[str, Any], int]:
    """The text, the usage, and the number of responses it took."""
    pieces, usage = [], ""
    async for result, error in _ask(client, json.dumps(messages), temperature=0, **options):
        if error is not None:
            raise error
        pieces.append(result.as_numpy("text_output")[0].decode())
        usage = result.as_numpy("usage")[0].decode()
    return "".join(pieces), json.loads(usage), len(pieces)


async def test_an_answer_comes_whole_and_the_same_comes_in_pieces(client: InferenceServerClient) -> None:
    whole, usage, responses = await _answer(client, QUESTION, max_tokens=12)
    streamed, streamed_usage, pieces = await _answer(client, QUESTION, max_tokens=12, stream=True)
    assert whole == streamed != ""
    assert responses == 1
    assert pieces > 3
    assert streamed_usage["completion_tokens"] == usage["completion_tokens"] <= 12
    assert usage["finish_reason"] in ("stop", "length")
    assert usage["min_logprob"] <= usage["mean_logprob"] < 0
    # Tokens that are but a part of a character count, and have no log-probability of their own.
    counted = usage["sum_logprob"] / usage["mean_logprob"]
    assert counted == pytest.approx(round(counted))
    assert 0 < counted <= usage["completion_tokens"] + 0.01
    assert "tokens" not in usage


async def test_the_tokens_of_an_answer_say_what_it_says(client: InferenceServerClient) -> None:
    whole, usage, _ = await _answer(client, QUESTION, max_tokens=12, logprobs=True)
    assert b"".join(bytes(token["bytes"]) for token in usage["tokens"]).decode().startswith(whole)
    assert sum(token["logprob"] for token in usage["tokens"]) == pytest.approx(usage["sum_logprob"])


async def test_a_penalty_makes_a_model_repeat_itself_less(client: InferenceServerClient) -> None:
    async def share_of_new_words(**penalties: float) -> float:
        text, _, _ = await _answer(client, LONG_STORY, max_tokens=120, **penalties)
        words = text.lower().split()
        return len(set(words)) / len(words)

    plain = await share_of_new_words()
    assert await share_of_new_words(frequency_penalty=2) > plain
    assert await share_of_new_words(presence_penalty=2) > plain


async def test_a_schema_constrains_the_answer(client: InferenceServerClient) -> None:
    schema = {
        "type": "object",
        "properties": {"country": {"enum": ["Chad", "Peru"]}},
        "required": ["country"],
        "additionalProperties": False,
    }
    text, usage, _ = await _answer(
        client,
        QUESTION,
        max_tokens=40,
        response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}},
    )
    assert text in ('{"country": "Chad"}', '{"country": "Peru"}')
    assert usage["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("schema", "answers"),
    [
        ({"type": "string", "minLength": 2, "maxLength": 3}, r'"..?."'),
        ({"type": "string", "enum": ["Chad", "Peru"]}, '"(Chad|Peru)"'),
        ({"type": "integer", "enum": ["Chad", "Peru"]}, '"(Chad|Peru)"'),  # llama.cpp goes by the values
    ],
)
async def test_a_schema_that_llguidance_is_not_given_constrains_the_answer_too(
    client: InferenceServerClient, schema: dict[str, Any], answers: str
) -> None:
    text, _, _ = await _answer(
        client, QUESTION, max_tokens=40, response_format={"type": "json_schema", "json_schema": {"schema": schema}}
    )
    assert re.fullmatch(answers, text.strip())


async def test_two_versions_answer_side_by_side_with_and_without_the_adapter(client: InferenceServerClient) -> None:
    _, base, _ = await _answer(client, QUESTION, max_tokens=8, version="1")
    _, adapted, _ = await _answer(client, QUESTION, max_tokens=8, version="2")
    assert base["sum_logprob"] != pytest.approx(adapted["sum_logprob"], abs=1e-3)


async def test_the_training_tokenizer_counts_the_tokens_that_llama_cpp_reads(
    client: InferenceServerClient, models: Path
) -> None:
    from transformers import AutoTokenizer  # takes seconds, and is for this test alone

    messages = [{"role": "user", "content": "1990-01-02, 12345 Baker St.:  a  café\n\n\tfor $36.50? 👩‍🚀 don't"}]
    tokenizer = AutoTokenizer.from_pretrained(models / "base")
    _, usage, _ = await _answer(client, messages, max_tokens=1)
    expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert usage["prompt_tokens"] == len(expected)


async def test_a_client_that_leaves_stops_the_generation(client: InferenceServerClient) -> None:
    started = time.monotonic()
    _, usage, _ = await _answer(client, LONG_STORY, max_tokens=50)
    seconds_per_token = (time.monotonic() - started) / usage["completion_tokens"]

    # Both slots are taken and left; were they still generating, the next answer would wait for 900 tokens.
    for _ in range(2):
        responses = _ask(client, json.dumps(LONG_STORY), stream=True, temperature=0, max_tokens=900)
        await anext(aiter(responses))
        responses.cancel()
    started = time.monotonic()
    await _answer(client, QUESTION, max_tokens=2)
    assert time.monotonic() - started < 300 * seconds_per_token


@pytest.mark.parametrize(
    ("text", "sampling", "complaint"),
    [
        ("no json", {}, "text_input: no valid JSON"),
        ("[]", {}, "text_input: wanted a non-empty JSON list"),
        (b'["\xff"]', {}, "text_input: no valid UTF-8"),
        ('[{"role": "boss", "content": "x"}]', {}, r"text_input\[0\].role: 'boss'; wanted one of"),
        ('[{"role": "user", "content": 5}]', {}, r"text_input\[0\].content: wanted a string"),
        (json.dumps([{"role": "user", "content": "x " * 2000}]), {}, "text_input: .* tokens; wanted fewer than 1024"),
        (json.dumps(QUESTION), {"temperature": 9}, "sampling_parameters.temperature: 9; wanted a number from 0 to 2"),
        (json.dumps(QUESTION), {"lora_name": "x"}, "sampling_parameters.lora_name: unknown"),
        (
            json.dumps(QUESTION),
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "nonsense"}}}},
            "llama.cpp refuses",
        ),
    ],
)
async def test_bad_input_is_refused_by_name(
    client: InferenceServerClient, text: str | bytes, sampling: dict[str, Any], complaint: str
) -> None:
    _, error = await anext(aiter(_ask(client, text, **sampling)))
    assert isinstance(error, InferenceServerException)
    assert re.search(complaint, error.message())
