"""The steps of one worker, from a checkpoint or from nothing to the last one. Knows torch, not Ray."""

import math
import os
import resource
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.optimizers import create_loraplus_optimizer
from torch import Tensor, nn

from services.trainer.dataset import read_manifest, read_rows
from services.trainer.training.cached_activations import CachedActivations
from services.trainer.training.configuration import RunSpecification
from services.trainer.training.examples import Example, TrainingSet, epoch_batches, forward_passes, training_set
from services.trainer.training.inputs import Inputs
from services.trainer.training.model import (
    Base,
    CompletionLogprobs,
    adapter_weights,
    add_lora,
    load_adapter,
    load_tokenizer,
    save_adapter,
    set_adapter_weights,
)
from services.trainer.training.objective import Objective
from services.trainer.training.progress import Progress

_PROGRESS_INTERVAL_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Worker:
    """What a worker is to its group.

    Attributes:
        rank: Its number, from 0; the first one writes progress and files.
        size: How many there are.
        device: Where it computes.
        parallel: Wraps the model so that gradients are averaged over the group.
        unshared: Within it, gradients of the wrapped model stay this worker's.
        wait_for_others: Returns once every worker has called it.
        total: The sum of a scalar over the group.
    """

    rank: int
    size: int
    device: torch.device
    parallel: Callable[[nn.Module], nn.Module]
    unshared: Callable[[nn.Module], AbstractContextManager[None]]
    wait_for_others: Callable[[], None]
    total: Callable[[Tensor], Tensor]


def alone(device: torch.device | None = None) -> Worker:
    """The only worker of a run."""
    return Worker(
        rank=0,
        size=1,
        device=device or torch.device("cpu"),
        parallel=lambda module: module,
        unshared=lambda _: nullcontext(),
        wait_for_others=lambda: None,
        total=lambda value: value,
    )


class _Position:
    """How far a run is, beside its weights: what a checkpoint's `state.pt` holds."""

    def __init__(self) -> None:
        self.step = 0
        self.resumed = 0
        self.losses: list[float] = []
        self.validation_losses: list[float] = []  # of each epoch, in nats a token
        self.best: dict[str, Tensor] = {}  # the adapter of the epoch with the lowest
        self.ended = False
        self.tokens = 0
        self.seconds = 0.0
        self.caching_seconds = 0.0
        self.peak_memory_bytes = 0

    def judge(self, validation_loss: float, model: PeftModel, patience: int) -> None:
        """Takes the loss of an epoch; once there is enough, ends with the adapter of the best one."""
        self.validation_losses.append(validation_loss)
        lowest = min(self.validation_losses)
        if validation_loss == lowest:
            self.best = adapter_weights(model)
        since = len(self.validation_losses) - 1 - self.validation_losses.index(lowest)
        self.ended = self.ended or since >= patience
        if self.ended:
            set_adapter_weights(model, self.best)

    def save(self, folder: Path, optimizer: torch.optim.Optimizer) -> None:
        torch.save(
            {"position": vars(self), "optimizer": optimizer.state_dict(), "torch_rng": torch.get_rng_state()},
            folder / "state.pt",
        )

    def load(self, folder: Path, optimizer: torch.optim.Optimizer) -> None:
        state = torch.load(folder / "state.pt", weights_only=True)
        vars(self).update(state["position"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["torch_rng"])
        self.resumed += 1


def train(
    specification: RunSpecification,
    *,
    work_dir: Path,
    progress: Progress,
    worker: Worker,
    resume_from: Path | None,
    save_checkpoint: Callable[[Callable[[Path], None], dict[str, Any]], None],
) -> None:
    """Trains to the end of the last epoch, or until rows that are kept apart get no likelier.

    Args:
        specification: The run.
        work_dir: Where cached activations are kept, seen by all workers.
        progress: Told how far it is, by the first worker.
        worker: This worker.
        resume_from: A checkpoint folder of the same run, to go on from.
        save_checkpoint: Called by every worker after every `checkpoint_every_epochs` epochs and the last, with a
            function that fills a folder and the run's metrics so far (see `_metrics`).

    Raises:
        ValueError: The dataset or the base is of no use; trying again would not help.
    """
    configuration = specification.configuration
    torch.set_num_threads(configuration.cpus_per_worker)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Nothing here reads memory before it is written; filling it took a twentieth of the time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # set by its setter alone
    torch.manual_seed(specification.seed)

    tokenizer = load_tokenizer(Path(specification.base))
    rows = read_rows(Path(specification.dataset), "train")
    learned = training_set(rows, tokenizer, configuration, specification.seed)
    examples = learned.examples

    position = _Position()
    base = Base.load(Path(specification.base), configuration.trained_depth, getattr(torch, configuration.precision))
    base.move_to(worker.device)
    if worker.device.type == "cpu":
        # The fused attention's way back is slow there in bfloat16: with rows of a hundred tokens, a sixth of each step.
        base.causal_lm.set_attn_implementation("eager")
    base.check_cut(examples[0].token_ids)
    cached = None
    if base.first_trained > 0:
        started = time.monotonic()
        cached = _cache(base, examples, work_dir, configuration.forward_tokens, worker, progress)
        base.drop_lower()
        position.caching_seconds = time.monotonic() - started
    model = add_lora(base, rank=configuration.lora_rank, alpha=configuration.lora_alpha)
    logprobs_of = CompletionLogprobs(base, model).to(worker.device)
    inputs = Inputs(examples, cached, worker.device)

    def report_comparing(done: int) -> None:
        if worker.rank == 0:
            progress.report("comparing", rows_done=done, rows=len(learned.compared))

    # While the adapter, of which one half is nought, leaves the base as it is.
    reference = inputs.likelihoods(logprobs_of, learned.compared, configuration.forward_tokens, report_comparing)
    objective = Objective(learned, reference, configuration)
    optimizer = create_loraplus_optimizer(
        model,
        torch.optim.AdamW,
        lr=configuration.learning_rate,
        loraplus_lr_ratio=configuration.lora_plus_ratio,
        betas=(0.9, configuration.adam_beta2),
        fused=True,
    )
    peak_rates = [group["lr"] for group in optimizer.param_groups]
    if resume_from is not None:
        load_adapter(model, resume_from / "adapter")
        position.load(resume_from, optimizer)

    lengths = [sum(len(examples[i].token_ids) for i in objective.rows([index])) for index in range(len(examples))]
    steps_per_epoch = math.ceil(len(learned.epochs[0]) / configuration.batch_size)
    steps = steps_per_epoch * configuration.epochs
    if worker.rank == 0:
        progress.report("worker", pid=os.getpid(), steps=steps, resumed_at_step=position.step)

    def fill(folder: Path) -> None:
        save_adapter(model, folder / "adapter")
        position.save(folder, optimizer)

    parallel = worker.parallel(logprobs_of)
    parallel.train()
    last_report = 0.0
    for epoch in range(position.step // steps_per_epoch, 0 if position.ended else configuration.epochs):
        seen = learned.epochs[epoch]
        batches = epoch_batches(
            [lengths[i] for i in seen], configuration.batch_size, seed=specification.seed, epoch=epoch
        )
        for rows_of_batch in batches[position.step % steps_per_epoch :]:
            batch = [seen[row] for row in rows_of_batch]
            started = time.monotonic()
            for group, peak in zip(optimizer.param_groups, peak_rates, strict=True):
                group["lr"] = peak * share_of_peak_rate(configuration.warmup_steps, position.step, steps)
            completion_tokens = sum(examples[i].completion_tokens for i in batch)
            *but_last, last = forward_passes(batch[worker.rank :: worker.size], lengths, configuration.forward_tokens)
            loss = torch.zeros((), device=worker.device)
            for taken in (*but_last, last):
                # Gradients add up over a worker's passes, whose number is its own, and meet the others' after the last.
                with nullcontext() if taken is last else worker.unshared(parallel):
                    logprobs = parallel(*inputs.of(objective.rows(taken)))
                    part = objective.loss(logprobs, taken, len(batch), completion_tokens)
                    # They are averaged over the group, while the loss is already a share of the whole step's.
                    (part * worker.size).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
                loss += part.detach()
            torch.nn.utils.clip_grad_norm_(model.parameters(), configuration.max_gradient_norm)
            optimizer.step()
            optimizer.zero_grad()
            position.step += 1
            position.losses.append(float(worker.total(loss)))
            position.tokens += sum(lengths[i] for i in batch)
            position.seconds += time.monotonic() - started
            now = time.monotonic()
            if worker.rank == 0 and (now - last_report > _PROGRESS_INTERVAL_SECONDS or position.step == steps):
                last_report = now
                progress.report(
                    "training",
                    step=position.step,
                    steps=steps,
                    epoch=epoch + 1,
                    loss=position.losses[-1],
                    tokens_per_second=position.tokens / position.seconds,
                    seconds_left=position.seconds / position.step * (steps - position.step),
                )
        position.ended = epoch + 1 == configuration.epochs
        if learned.validation:
            own = inputs.likelihoods(
                logprobs_of, learned.validation[worker.rank :: worker.size], configuration.forward_tokens
            )
            tokens = sum(examples[i].completion_tokens for i in learned.validation)
            position.judge(-float(worker.total(own.sum())) / tokens, model, configuration.patience)
            if worker.rank == 0:
                progress.report("validating", epoch=epoch + 1, loss=position.validation_losses[-1])
        if (epoch + 1) % configuration.checkpoint_every_epochs == 0 or position.ended:
            position.peak_memory_bytes = max(position.peak_memory_bytes, _peak_memory_bytes(worker.device))
            metrics = _metrics(specification, base, model, learned, steps_per_epoch, position)
            save_checkpoint(fill, metrics)
        if position.ended:
            break


def share_of_peak_rate(warmup_steps: int, step: int, steps: int) -> float:
    """Of a step (from 0) of `steps`: a linear rise to 1, under a half cosine down to zero."""
    rise = min(1.0, (step + 1) / warmup_steps)
    return rise * 0.5 * (1 + math.cos(math.pi * step / steps))


def _cache(
    base: Base, examples: Sequence[Example], work_dir: Path, forward_tokens: int, worker: Worker, progress: Progress
) -> CachedActivations:
    decoder_dtype = base.causal_lm.dtype
    cached = CachedActivations(work_dir / "activations.bin", examples, base.causal_lm.config.hidden_size, decoder_dtype)
    if worker.rank == 0:
        cached.compute(
            base,
            forward_tokens=forward_tokens,
            report=lambda done: progress.report("caching", rows_done=done, rows=len(examples)),
        )
    worker.wait_for_others()
    return cached


def _peak_memory_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _metrics(
    specification: RunSpecification,
    base: Base,
    model: nn.Module,
    learned: TrainingSet,
    steps_per_epoch: int,
    position: _Position,
) -> dict[str, Any]:
    losses = position.losses
    epochs = [losses[i : i + steps_per_epoch] for i in range(0, len(losses), steps_per_epoch)]
    return {
        "dataset_id": read_manifest(Path(specification.dataset)).dataset_id,
        "configuration": specification.configuration.name,
        "seed": specification.seed,
        "rows": len(learned.epochs[0]),
        "examples": len(learned.examples),
        "preferences": len(learned.rejected),
        "label_ids_too_long": learned.too_long,
        "layers": base.layer_count,
        "first_trained_layer": base.first_trained,
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "steps": position.step,
        "resumed": position.resumed,
        "loss_per_step": [round(loss, 5) for loss in losses],
        "loss_per_epoch": [round(sum(epoch) / len(epoch), 5) for epoch in epochs],
        "validation_loss_per_epoch": [round(loss, 5) for loss in position.validation_losses],
        "tokens": position.tokens,
        "caching_seconds": round(position.caching_seconds, 2),
        "training_seconds": round(position.seconds, 2),
        "tokens_per_second": round(position.tokens / position.seconds, 1),
        "peak_memory_bytes": position.peak_memory_bytes,
    }
