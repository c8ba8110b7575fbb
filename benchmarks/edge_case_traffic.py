"""Records the traffic that `benchmarks.edge_cases` picks from: `python -m benchmarks.edge_case_traffic FOLDER`.

Of the requests of `gyre.demo.traffic` (live ones of BFCL) an early specialist is trained on `--labels` of those that
are not held out, chosen anew for each seed, by the trainer's own run. It then answers all the others, and the generic
model answers as many: in a Triton of their own, held to the functions on offer, as behind the router. Each answer is
judged by BFCL's own checker and written to FOLDER/<model>-<seed>.jsonl as an `Answer`; what is there already stays.
"""

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from embedded.ports import stack_ports
from embedded.settings import Settings as StackSettings
from embedded.stack import Stack
from gyre.demo.checker import is_right, right_function
from gyre.demo.traffic import TrafficRequest, traffic
from schemas.bundle import load_bundle
from schemas.events import Message, Tool
from schemas.prompts import Prompt, generic_messages, offered_schema, specialist_messages
from services.runtime.triton import TritonModels
from services.serving.adapters import TritonServer
from services.serving.gguf import write_adapter
from services.serving.llama_backend import write_model_version
from services.trainer.dataset import DatasetPolicy, LabelledRow, build_dataset
from services.trainer.dataset import Message as Turn
from services.trainer.settings import Settings
from services.trainer.training.configuration import RunSpecification, TrainingConfiguration, cpu, write_specification

TASK = load_bundle(Path("deploy/bundle")).tasks["consumer-services"]
IN_FLIGHT = 2
TIMEOUT_SECONDS = 120.0
LOAD_SECONDS = 60.0


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a model answered, and how right that was.

    Attributes:
        id: Of the request, in the traffic.
        answer: The call as JSON text.
        finish_reason: stop or length.
        tokens: Text and log-probability of each.
        right: By the official checker.
        right_function: Whether it called the right one.
    """

    id: str
    answer: str
    finish_reason: str
    tokens: list[tuple[str, float]]
    right: bool
    right_function: bool


def read(path: Path) -> list[Answer]:
    """Return the answers of a file."""
    return [msgspec.json.decode(line, type=Answer) for line in path.read_bytes().splitlines()]


def write(path: Path, answers: Sequence[Answer]) -> None:
    """Write the answers of a file, all or nothing."""
    scratch = path.with_suffix(".part")
    scratch.write_bytes(b"".join(msgspec.json.encode(answer) + b"\n" for answer in answers))
    scratch.rename(path)


def messages_of(request: TrafficRequest) -> tuple[Message, ...]:
    """Return what was asked."""
    return tuple(Message(role=each["role"], content=each["content"]) for each in request.messages)


def tools_of(request: TrafficRequest) -> tuple[Tool, ...]:
    """Return the functions that were offered."""
    functions = [tool["function"] for tool in request.tools]
    return tuple(
        Tool(name=each["name"], description=each["description"], parameters=json.dumps(each["parameters"]))
        for each in functions
    )


def main() -> None:
    """Train, ask, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--labels", type=int, default=250, help="that the early specialist learns from")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for seed in range(options.seeds):
        taught = taught_by_chance(seed, options.labels)
        adapter = options.folder / f"adapter-{seed}.gguf"
        if not adapter.exists():
            train(taught, seed, adapter)
        known = {request.id for request in taught}
        asked = [request for request in traffic() if request.id not in known]
        for model, path in (("specialist", adapter), *([("generic", None)] if seed == 0 else [])):
            target = options.folder / f"{model}-{seed}.jsonl"
            written = answers_of(target, model, path, asked)
            right, called = (sum(getattr(each, name) for each in written) for name in ("right", "right_function"))
            print(f"{target}: {len(written)} answers, {right} right, {called} with the right function", flush=True)


def taught_by_chance(seed: int, labels: int) -> list[TrafficRequest]:
    """Return requests that may be learned from, as many as there are labels for."""
    learnable = [request for request in traffic() if request.split == "traffic"]
    return random.Random(seed).sample(learnable, labels)


def train(
    requests: Sequence[TrafficRequest],
    seed: int,
    adapter: Path,
    configuration: TrainingConfiguration | None = None,
    said: Mapping[str, str] = MappingProxyType({}),
) -> float:
    """Train a specialist on the right answers of requests, write it as a GGUF adapter, and return the seconds it took.

    Args:
        requests: What it learns from.
        seed: Of the run.
        adapter: The file that is written.
        configuration: How to train; the trainer's own for processors where it is None.
        said: What a model had said to requests, by their id.
    """
    base = Settings().models_dir / Settings().base
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        specification = RunSpecification(
            dataset=str(dataset_of(requests, Path(folder), said)),
            base=str(base.resolve()),
            configuration=configuration or cpu(),
            seed=seed,
        )
        write_specification(run_dir, specification)
        subprocess.run([sys.executable, "-m", "services.trainer.run", str(run_dir)], check=True)  # noqa: S603 - ourselves
        write_adapter(run_dir / "adapter", base, adapter)
        return float(json.loads((run_dir / "metrics.json").read_bytes())["wall_seconds"])


def dataset_of(requests: Sequence[TrafficRequest], root: Path, said: Mapping[str, str] = MappingProxyType({})) -> Path:
    """Write a dataset of the right answers of requests, which correct what a model had said; return its folder."""
    rows = [
        LabelledRow(
            request_id=request.id,
            label_id=request.id,
            labelled_at_ms=0,
            tenant="benchmark",
            task="functions",
            sensitivity="public",
            source="benchmark",
            messages=tuple(
                msgspec.convert(message, Turn)
                for message in specialist_messages(TASK.specialist_prompt, messages_of(request))
            ),
            completion=request.expected_call_json,
            tools=tuple(tool["function"] for tool in request.tools),
            rejected=said.get(request.id, ""),
        )
        for request in requests
    ]
    policy = DatasetPolicy(holdout_share=0.01, minimum_train_rows=1, minimum_holdout_rows=1)
    return build_dataset(rows, policy, root, created_at_ms=0)


def answers_of(path: Path, model: str, adapter: Path | None, requests: Sequence[TrafficRequest]) -> list[Answer]:
    """Return what a model answers (see `ask_all`): what a file holds, which is written unless it is there."""
    if not path.exists():
        write(path, asyncio.run(ask_all(model, adapter, requests)))
    return read(path)


async def ask_all(model: str, adapter: Path | None, requests: Sequence[TrafficRequest]) -> list[Answer]:
    """Return what a model answers: the generic one, or with an adapter the specialist."""
    base = Settings().models_dir / f"{Settings().base}.Q8_0.gguf"
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(StackSettings(state_dir=Path(folder), ports=stack_ports()))
        stack.start(("triton",))
        try:
            write_model_version(stack.settings.triton_repository, model, 1, base_gguf=base, adapter_gguf=adapter)
            url = stack.settings.address("GYRE_EMBEDDED_TRITON_GRPC_PORT")
            async with TritonServer(url, LOAD_SECONDS, IN_FLIGHT) as server, TritonModels(url) as models:
                await server.load(model)
                free = asyncio.Semaphore(IN_FLIGHT)

                async def ask(request: TrafficRequest) -> Answer:
                    async with free:
                        return await _answer(models, model, request)

                return list(await asyncio.gather(*map(ask, requests)))
        finally:
            stack.stop()


async def _answer(models: TritonModels, model: str, request: TrafficRequest) -> Answer:
    messages, tools = messages_of(request), tools_of(request)
    chat = (
        generic_messages(TASK.generic_prompt, messages, tools)
        if model == "generic"
        else specialist_messages(TASK.specialist_prompt, messages)
    )
    schema: dict[str, Any] = json.loads(offered_schema(tools, function_call=True))
    sampling = {
        "temperature": 0,
        "max_tokens": TASK.max_tokens,
        "logprobs": True,
        "response_format": {"type": "json_schema", "json_schema": {"schema": schema}},
    }
    text, generated = await models.answer(Prompt(model, "", chat, sampling), TIMEOUT_SECONDS)
    return Answer(
        id=request.id,
        answer=text,
        finish_reason=generated.finish_reason,
        tokens=[(token.token, token.logprob) for token in generated.tokens],
        right=is_right(request, text),
        right_function=right_function(request, text),
    )


if __name__ == "__main__":
    main()
