"""What Triton with our llama.cpp backend generates a second: `python -m benchmarks.generation`.

Beside it, in the same rounds, one after the other and each alone: llama.cpp itself, with all cores and a slot for each
answer under way, and transformers. All three give so many tokens for the same chats, the first two from the same file.
It needs what the first `gyre up` makes. The answers are stories, so that hardly one ends early.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from embedded.ports import stack_ports
from embedded.settings import Settings as StackSettings
from embedded.stack import Stack
from schemas.prompts import Prompt
from services.runtime.triton import TritonModels
from services.serving.adapters import TritonServer
from services.serving.llama_backend import write_model_version
from services.trainer.settings import Settings

_MODEL, _TIMEOUT_SECONDS = "story", 120.0
_SIDES = Path(__file__).with_name("generation_sides.py")
_HEROES = ("a lighthouse keeper", "two brothers", "a tailor", "the last ferry", "an orchard", "a clockmaker")
_PLACES = ("in the far north", "by a river", "in an empty city", "on a mountain pass")
_PROMPTS = [f"Tell me a long story about {hero} {place}." for place in _PLACES for hero in _HEROES]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=64, help="of an answer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 8], help="answers under way")
    options = parser.parse_args()
    folder = Settings().models_dir / Settings().base
    gguf = folder.with_name(f"{folder.name}.Q8_0.gguf")
    if not gguf.is_file():
        parser.error(f"{gguf} is missing: `gyre up` makes it")
    with tempfile.TemporaryDirectory() as state:
        stack = Stack(StackSettings(state_dir=Path(state), ports=stack_ports()))
        stack.start(("triton",))
        try:
            asyncio.run(_measure(stack.settings, folder, gguf, options))
        finally:
            stack.stop()


async def _measure(settings: StackSettings, folder: Path, gguf: Path, options: argparse.Namespace) -> None:
    write_model_version(
        settings.triton_repository, _MODEL, 1, base_gguf=gguf, adapter_gguf=None, parallel=os.cpu_count() or 1
    )
    url = settings.address("GYRE_EMBEDDED_TRITON_GRPC_PORT")
    async with TritonServer(url, _TIMEOUT_SECONDS, 1) as server, TritonModels(url) as models:
        await server.load(_MODEL)
        for in_flight in options.in_flight:
            rates = defaultdict(list)
            for _ in range(options.rounds):
                prompts = _PROMPTS[: max(4, in_flight) * 2]
                told = [str(options.tokens), str(in_flight), *prompts]
                rates["Triton"].append(await _triton(models, prompts, options.tokens, in_flight))
                rates["llama.cpp"].append(_side(settings.triton_python, "llama.cpp", str(gguf), *told))
                rates["transformers"].append(_side(Path(sys.executable), "transformers", str(folder), *told))
            print(
                f"{in_flight} in flight, {os.cpu_count()} cores, tokens a second (medians of {options.rounds} rounds)"
            )
            for name, found in rates.items():
                each = [ours / theirs for ours, theirs in zip(rates["Triton"], found, strict=True)]
                print(
                    f"  {name:14}{statistics.median(found):8.1f}   Triton is {statistics.median(each):5.2f} of it "
                    f"({min(each):.2f} to {max(each):.2f})",
                    flush=True,
                )


async def _triton(models: TritonModels, prompts: list[str], tokens: int, in_flight: int) -> float:
    free = asyncio.Semaphore(in_flight)

    async def ask(prompt: str) -> int:
        async with free:
            chat = [{"role": "user", "content": prompt}]
            sampling = {"temperature": 0, "max_tokens": tokens}
            _, generated = await models.answer(Prompt(_MODEL, "", chat, sampling), _TIMEOUT_SECONDS)
            return generated.completion_tokens

    await ask(prompts[0])
    started = time.perf_counter()
    count = sum(await asyncio.gather(*map(ask, prompts)))
    return count / (time.perf_counter() - started)


def _side(python: Path, *arguments: str) -> float:
    command = [str(python), str(_SIDES), *arguments]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - ourselves
    return float(output.splitlines()[-1])


if __name__ == "__main__":
    main()
