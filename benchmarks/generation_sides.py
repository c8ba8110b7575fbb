"""A side of `benchmarks.generation` in a process of its own: `SIDE MODEL TOKENS IN_FLIGHT PROMPT...`.

`llama.cpp` runs in Triton's environment and imports nothing else of this project; `transformers` in the trainer's.
Prints tokens a second.
"""

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any


def llama_cpp(model: Path, tokens: int, in_flight: int, prompts: list[str]) -> float:
    """One llama.cpp with all cores that answers so many at once, each prompt in a slot of its own."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(model)
    parameters.n_parallel = in_flight
    parameters.n_ctx = 1024 * in_flight
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = os.cpu_count() or 1
    parameters.verbosity = 0
    server = xllamacpp.Server(parameters)
    waiting, counted = list(prompts), [0] * in_flight

    def ask(prompt: str) -> int:
        taken: list[int] = []

        def on_chunk(chunk: dict[str, Any]) -> bool:
            taken.append((chunk.get("usage") or {}).get("completion_tokens", 0))
            return False

        body = {
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        server.handle_chat_completions(body, on_chunk)
        return max(taken)

    def caller(number: int) -> None:
        while waiting:
            counted[number] += ask(waiting.pop())

    ask(prompts[0])
    callers = [threading.Thread(target=caller, args=[number]) for number in range(in_flight)]
    started = time.perf_counter()
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    return sum(counted) / (time.perf_counter() - started)


def transformers(model: Path, tokens: int, in_flight: int, prompts: list[str]) -> float:
    """Batches of so many prompts, as transformers generates them, in float32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(model, padding_side="left")
    loaded: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    chats = [[{"role": "user", "content": prompt}] for prompt in prompts]

    def generate(batch: list[Any], most: int) -> int:
        inputs = tokenizer.apply_chat_template(
            batch, add_generation_prompt=True, return_tensors="pt", return_dict=True, padding=True
        )
        made = loaded.generate(**inputs, max_new_tokens=most, do_sample=False)[:, inputs["input_ids"].shape[1] :]
        return int((made != tokenizer.pad_token_id).sum())

    generate(chats[:1], 8)
    started = time.perf_counter()
    count = sum(generate(chats[i : i + in_flight], tokens) for i in range(0, len(chats), in_flight))
    return count / (time.perf_counter() - started)


if __name__ == "__main__":
    side, model, tokens, in_flight, *prompts = sys.argv[1:]
    print(
        {"llama.cpp": llama_cpp, "transformers": transformers}[side](Path(model), int(tokens), int(in_flight), prompts)
    )
