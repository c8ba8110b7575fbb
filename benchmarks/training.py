"""Training throughput: the trainer's run through Ray beside a plain PyTorch loop at full depth, on the same rows.

    python -m benchmarks.training

Four measurements, one after the other, each in a process of its own, so that each peak memory is its own:

    forward only   the frozen base over the training rows, no gradients: the floor, what seeing a token once costs
    full depth     a plain PyTorch loop: LoRA on every linear layer of every layer, no Ray, no cache
    without Ray    the trainer's own loop with the `cpu` configuration, called as a function
    trainer        `python -m services.trainer.run` with the same

All four compute in the type that `cpu` takes on this machine, so that the ratios tell what the trainer's way is worth.
Rows are synthetic, of the shape and length of real function-calling requests. Tokens are those of the rows, padding not
counted. The floor and the plain loop stop after `--seconds` each; the last two take turns, `--rounds` times each, and
medians are shown.
"""

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import psutil
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, PreTrainedModel

from services.trainer.dataset import DatasetPolicy, LabelledRow, Message, build_dataset, read_rows
from services.trainer.settings import Settings
from services.trainer.training.configuration import RunSpecification, cpu, write_specification
from services.trainer.training.examples import encode, epoch_batches
from services.trainer.training.loop import alone, train
from services.trainer.training.model import IGNORED, load_tokenizer
from services.trainer.training.progress import Progress

_BASE = Settings().models_dir / Settings().base
# To read how much of a process is its own, the kernel keeps it from growing meanwhile: every half second took a fifth
# of the speed.
_LOOK_SECONDS = 10.0
_SYSTEM = "You route store requests. Reply with one JSON function call."
_CITIES = ("Lisbon", "San Francisco, CA", "Bonn", "Kyoto", "Nairobi", "Seattle, WA", "Oaxaca", "Tromsø")
_GENRES = ("drama", "comedy", "thriller", "musical", "documentary")


def main() -> None:
    """Runs the measurements and prints them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, default=_BASE, help="Hugging Face folder of the base model")
    parser.add_argument("--rows", type=int, default=80, help="rows of the training set")
    parser.add_argument("--seconds", type=float, default=20, help="how long the floor and the plain loop each run")
    parser.add_argument("--rounds", type=int, default=3, help="of the trainer, with Ray and without")
    parser.add_argument("--measure", choices=[*_MEASURES], help=argparse.SUPPRESS)
    parser.add_argument("--dataset", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not (options.base / "config.json").is_file():
        parser.error(f"--base {options.base}: a folder with a config.json in it is wanted; `gyre up` makes one")
    if options.measure:
        print(json.dumps(_MEASURES[options.measure](options.base, options.dataset, options.seconds)))
        return
    with tempfile.TemporaryDirectory() as folder:
        dataset = _dataset(Path(folder), options.rows)
        floor = _in_a_process("floor", options.base, dataset, options.seconds)
        plain = _in_a_process("plain", options.base, dataset, options.seconds)
        rounds = [
            (
                _in_a_process("alone", options.base, dataset, options.seconds),
                _trainer(options.base, dataset, Path(folder) / f"run-{number}"),
            )
            for number in range(options.rounds)
        ]
    loop, trainer = (_medians(side) for side in zip(*rounds, strict=True))
    each = [by_ray["tokens_per_second"] / by_hand["tokens_per_second"] for by_hand, by_ray in rounds]
    print(f"{'':14} {'tokens/s':>9} {'of the floor':>13} {'peak memory':>12}")
    sides = {"forward only": floor, "full depth": plain, "without Ray": loop, "trainer": trainer}
    for name, measured in sides.items():
        print(
            f"{name:14} {measured['tokens_per_second']:9.0f} "
            f"{measured['tokens_per_second'] / floor['tokens_per_second']:13.2f} "
            f"{measured['peak_memory_bytes'] / 2**30:8.2f} GiB"
        )
    print(
        f"\ntrainer / without Ray: {statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})\n"
        f"trainer / full depth: {trainer['tokens_per_second'] / plain['tokens_per_second']:.1f} times in training, "
        f"{trainer['wall_tokens_per_second'] / plain['tokens_per_second']:.1f} times with starting Ray, caching "
        f"({trainer['caching_seconds']:.0f} s) and stopping Ray counted in ({trainer['wall_seconds']:.0f} s in all, "
        f"{trainer['tokens']:.0f} tokens)\n"
        f"memory of the whole process tree, Ray included: {trainer['tree_memory_bytes'] / 2**30:.2f} GiB"
    )


def _medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}


def _dataset(root: Path, rows: int) -> Path:
    rng = random.Random(0)  # filler, not a secret
    labelled = []
    for number in range(rows * 2):
        arguments = {"city": rng.choice(_CITIES), "genre": rng.choice(_GENRES), "seats": rng.randint(1, 8)}
        labelled.append(
            LabelledRow(
                request_id=f"request-{number}",
                label_id=f"label-{number}",
                labelled_at_ms=number,
                tenant="benchmark",
                task="booking",
                sensitivity="public",
                source="synthetic",
                messages=(
                    Message("system", _SYSTEM),
                    Message(
                        "user",
                        f"Hello, I am customer {number}. We are {arguments['seats']} people in {arguments['city']} and "
                        f"would like to see a {arguments['genre']} tonight. "
                        + "Could you find out what is on, please? "
                        * rng.randint(0, 4),
                    ),
                ),
                completion=json.dumps({"name": "find_shows", "arguments": arguments}, ensure_ascii=False),
            )
        )
    policy = DatasetPolicy(holdout_share=0.5, minimum_train_rows=1, minimum_holdout_rows=1)
    return build_dataset(labelled, policy, root, created_at_ms=0)


def _in_a_process(measure: str, base: Path, dataset: Path, seconds: float) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.training", "--base", str(base), "--dataset", str(dataset)]
    command += ["--measure", measure, "--seconds", str(seconds)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603  # ourselves
    measured: dict[str, float] = json.loads(output.splitlines()[-1])
    return measured


def _forward_only(base: Path, dataset: Path, seconds: float) -> dict[str, float]:
    model = _load(base)

    def step(ids: torch.Tensor, _labels: torch.Tensor) -> None:
        with torch.inference_mode():
            model.base_model(input_ids=ids, use_cache=False)

    return _measure(step, base, dataset, seconds)


def _full_depth(base: Path, dataset: Path, seconds: float) -> dict[str, float]:
    configuration = cpu()
    model = get_peft_model(
        _load(base),
        LoraConfig(r=configuration.lora_rank, lora_alpha=configuration.lora_alpha, target_modules="all-linear"),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=configuration.learning_rate)

    def step(ids: torch.Tensor, labels: torch.Tensor) -> None:
        model(input_ids=ids, labels=labels, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return _measure(step, base, dataset, seconds)


def _without_ray(base: Path, dataset: Path, _seconds: float) -> dict[str, float]:
    measured: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        train(
            _specification(base, dataset),
            work_dir=Path(folder),
            progress=Progress(Path(folder)),
            worker=alone(),
            resume_from=None,
            save_checkpoint=lambda fill, metrics: measured.update(metrics),
        )
    return {name: measured[name] for name in ("tokens_per_second", "peak_memory_bytes")}


def _specification(base: Path, dataset: Path) -> RunSpecification:
    configuration = msgspec.structs.replace(cpu(), epochs=2)
    return RunSpecification(dataset=str(dataset), base=str(base.resolve()), configuration=configuration, seed=0)


def _load(base: Path) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(base, dtype=getattr(torch, cpu().precision))
    return model


def _measure(
    step: Callable[[torch.Tensor, torch.Tensor], None], base: Path, dataset: Path, seconds: float
) -> dict[str, float]:
    """Takes the trainer's own batches, after two rows that do not count, until the time is up."""
    configuration = cpu()
    torch.set_num_threads(configuration.cpus_per_worker)
    tokenizer = load_tokenizer(base)
    examples = [encode(row, tokenizer) for row in read_rows(dataset, "train")]
    lengths = [len(example.token_ids) for example in examples]
    pad = torch.nn.utils.rnn.pad_sequence
    tokens, started, epoch = 0, 0.0, 0
    while True:
        batches = epoch_batches(lengths, configuration.batch_size, seed=0, epoch=epoch)
        for batch in batches if started else [batches[0][:2], *batches]:
            ids = pad([torch.tensor(examples[i].token_ids) for i in batch], batch_first=True)
            labels = pad(
                [
                    torch.tensor([IGNORED] * examples[i].prompt_tokens + list(examples[i].token_ids))[: lengths[i]]
                    for i in batch
                ],
                batch_first=True,
                padding_value=IGNORED,
            )
            step(ids, labels)
            if not started:
                started = time.monotonic()
                continue
            tokens += sum(lengths[i] for i in batch)
            elapsed = time.monotonic() - started
            if elapsed >= seconds:
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
                return {"tokens_per_second": tokens / elapsed, "peak_memory_bytes": peak}
        epoch += 1


def _trainer(base: Path, dataset: Path, run_dir: Path) -> dict[str, float]:
    write_specification(run_dir, _specification(base, dataset))
    process = subprocess.Popen([sys.executable, "-m", "services.trainer.run", str(run_dir)])  # noqa: S603  # ourselves
    finished = threading.Event()
    peak = 0

    def watch() -> None:
        nonlocal peak
        while not finished.wait(_LOOK_SECONDS):
            peak = max(peak, _tree_memory_bytes(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        status = process.wait()
    finally:
        finished.set()
        watcher.join()
        if process.poll() is None:
            process.terminate()
            process.wait()
    if status != os.EX_OK:
        raise SystemExit(f"the trainer's run ended with status {status}")
    metrics = json.loads((run_dir / "metrics.json").read_text())
    return {
        "tokens_per_second": metrics["tokens_per_second"],
        "wall_tokens_per_second": metrics["tokens"] / metrics["wall_seconds"],
        "peak_memory_bytes": metrics["peak_memory_bytes"],
        "tree_memory_bytes": peak,
        **{name: metrics[name] for name in ("tokens", "wall_seconds", "caching_seconds")},
    }


def _tree_memory_bytes(pid: int) -> int:
    """Proportional set size of a process and all below it: shared pages counted once."""
    total = 0
    try:
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in processes:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:  # it ended meanwhile
            continue
    return total


_MEASURES = {"floor": _forward_only, "plain": _full_depth, "alone": _without_ray}


if __name__ == "__main__":
    main()
