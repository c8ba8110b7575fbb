"""TRL's side of `benchmarks.specialist`; runs in an environment of its own.

`ROWS BASE EPOCHS TARGET` with settings as JSON on standard input: SFTTrainer with LoRA on every linear layer learns the
completions of ROWS, a JSON line for each (TRL's conversational prompt and completion), leaves the adapter of each epoch
in TARGET/<epoch> and prints a JSON line with the seconds since it was started.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer


class KeepEachEpoch(TrainerCallback):
    """Keeps the adapter of each epoch; the time that this takes is not the training's."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._kept_seconds = 0.0

    def on_epoch_end(self, _args: Any, state: Any, _control: Any, model: Any, **_: Any) -> None:
        """Save, and tell the time."""
        now = time.time()
        epoch = round(state.epoch)
        model.save_pretrained(self._target / str(epoch))
        seconds = now - psutil.Process().create_time() - self._kept_seconds
        print(json.dumps({"epoch": epoch, "seconds": seconds}), flush=True)
        self._kept_seconds += time.time() - now


def main(rows: Path, base: Path, epochs: int, target: Path, settings: dict[str, Any]) -> None:
    """Train."""
    torch.set_num_threads(settings["threads"])
    precision = settings["precision"]
    trainer = SFTTrainer(
        AutoModelForCausalLM.from_pretrained(base, dtype=precision),
        SFTConfig(
            output_dir=str(target / "trainer"),
            num_train_epochs=epochs,
            per_device_train_batch_size=settings["batch_size"],
            learning_rate=settings["learning_rate"],
            lr_scheduler_type="cosine",
            warmup_steps=settings["warmup_steps"],
            max_length=settings["max_tokens"],
            completion_only_loss=True,
            gradient_checkpointing=False,  # which saves memory for time
            bf16=precision == "bfloat16",
            use_cpu=True,
            seed=settings["seed"],
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list([json.loads(line) for line in rows.read_text().splitlines()]),
        processing_class=AutoTokenizer.from_pretrained(base),
        peft_config=LoraConfig(
            r=settings["rank"], lora_alpha=settings["alpha"], target_modules="all-linear", task_type="CAUSAL_LM"
        ),
        callbacks=[KeepEachEpoch(target)],
    )
    trainer.train()


if __name__ == "__main__":
    given_rows, given_base, given_epochs, given_target = sys.argv[1:]
    main(Path(given_rows), Path(given_base), int(given_epochs), Path(given_target), json.load(sys.stdin))
