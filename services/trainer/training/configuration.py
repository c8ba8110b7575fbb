"""A training run is a Python function that returns a complete, typed configuration.

Nothing here has a default: what a run was made with can be read from its `run.json` without knowing the code's
version. `cpu()` and `gpu()` are the configurations in use; a new one is a new function.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Literal

import msgspec

PositiveInt = Annotated[int, msgspec.Meta(gt=0)]
PositiveFloat = Annotated[float, msgspec.Meta(gt=0)]


class TrainingConfiguration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides what a run learns and what it may use.

    Attributes:
        name: What people call it; the name of the function that made it.
        trained_depth: Share of the base model's layers that are trained, counted from the top: 1.0 is all of them.
            Below 1.0 the layers underneath stay frozen, run once over all rows, and their output is kept.
        precision: Type of the frozen weights, and of what is multiplied. Adapter weights and loss are always float32.
        lora_rank: Rank of every adapter matrix pair (LoRA, Hu et al. 2021).
        lora_alpha: Adapter output is scaled by `lora_alpha / lora_rank`. All linear layers of a block are adapted.
        learning_rate: Peak rate of AdamW for the adapter's A matrices; falls to zero on a half cosine.
        lora_plus_ratio: The B matrices' rate as a multiple of it (LoRA+, Hayou et al. 2024); 1 is plain LoRA.
        adam_beta2: How slowly AdamW forgets how large gradients were.
        warmup_steps: Steps over which the rate rises linearly to its peak.
        max_gradient_norm: Gradients are scaled down to this norm when they exceed it.
        replaced_mentions: Probability with which, in each epoch anew, a value that a labelled call took over from its
            request is replaced in both (see `mentions`); 0 trains on the rows as they were labelled.
        preference_weight: What a row's preference counts for, beside the likelihood of its answer, where an expert
            corrected what the model had said (DPO, Rafailov et al. 2023, beside the likelihood as in Pang et al.,
            "Iterative Reasoning Preference Optimization", 2024); 0 learns the answers alone.
        preference_beta: How soon a preference is strong enough, DPO's beta.
        validation_share: Share of the training rows that nothing is learned from. After each epoch their loss is
            measured, and the adapter of the epoch with the lowest is what the run makes; 0 learns from all rows.
        patience: Epochs in a row without a lower one, after which the run ends.
        epochs: Passes over the training rows, at most.
        batch_size: Rows per step, over all workers together.
        forward_tokens: Most tokens, padding included, of one forward pass; a larger batch is taken in several, with the
            same gradient. This bounds the memory of a step (20 layers of 576 values take about 1.7 MB a token); a row
            that is longer by itself still goes through alone.
        max_tokens: Longest row, prompt and completion together. Longer rows are left out and listed in the metrics.
        checkpoint_every_epochs: How much work a killed worker can lose.
        workers: Ray Train workers (data parallel).
        cpus_per_worker: Cores, and torch threads, of each worker.
        use_gpu: Whether each worker gets a GPU.
        max_worker_failures: Times that killed workers are started again before the run is given up.
    """

    name: str
    trained_depth: Annotated[float, msgspec.Meta(gt=0, le=1)]
    precision: Literal["float32", "bfloat16"]
    lora_rank: PositiveInt
    lora_alpha: PositiveInt
    learning_rate: PositiveFloat
    lora_plus_ratio: Annotated[float, msgspec.Meta(ge=1)]
    adam_beta2: Annotated[float, msgspec.Meta(gt=0, lt=1)]
    replaced_mentions: Annotated[float, msgspec.Meta(ge=0, le=1)]
    preference_weight: Annotated[float, msgspec.Meta(ge=0)]
    preference_beta: PositiveFloat
    warmup_steps: PositiveInt
    max_gradient_norm: PositiveFloat
    validation_share: Annotated[float, msgspec.Meta(ge=0, lt=1)]
    patience: PositiveInt
    epochs: PositiveInt
    batch_size: PositiveInt
    forward_tokens: PositiveInt
    max_tokens: PositiveInt
    checkpoint_every_epochs: PositiveInt
    workers: PositiveInt
    cpus_per_worker: PositiveInt
    use_gpu: bool
    max_worker_failures: Annotated[int, msgspec.Meta(ge=0)]


def cpu(cpus_per_worker: int = 2) -> TrainingConfiguration:
    """Upper two thirds of the layers on cached activations: what a few cores can do in minutes."""
    return TrainingConfiguration(
        name="cpu",
        trained_depth=2 / 3,
        precision="bfloat16" if _multiplies_bfloat16() else "float32",
        lora_rank=16,
        lora_alpha=32,
        learning_rate=4e-4,
        lora_plus_ratio=4.0,
        # Over a few hundred steps the usual 0.999 forgets too little.
        adam_beta2=0.95,
        replaced_mentions=0.7,
        preference_weight=0.0,
        preference_beta=0.1,
        warmup_steps=8,
        max_gradient_norm=1.0,
        validation_share=0.0,
        patience=1,
        epochs=4,
        # Few rows need many steps: with 16, four times 300 rows were not even learned by heart.
        batch_size=4,
        forward_tokens=1024,
        max_tokens=384,
        checkpoint_every_epochs=1,
        workers=1,
        cpus_per_worker=cpus_per_worker,
        use_gpu=False,
        max_worker_failures=2,
    )


def _multiplies_bfloat16() -> bool:
    """Whether this machine's CPU has instructions for it; one without takes longer in bfloat16 than in float32."""
    flags = Path("/proc/cpuinfo").read_text().split()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def gpu(workers: int = 1) -> TrainingConfiguration:
    """Every layer, in bfloat16, one GPU per worker."""
    return TrainingConfiguration(
        name="gpu",
        trained_depth=1.0,
        precision="bfloat16",
        lora_rank=16,
        lora_alpha=32,
        learning_rate=1e-3,
        lora_plus_ratio=1.0,
        adam_beta2=0.999,
        replaced_mentions=0.0,
        preference_weight=0.0,
        preference_beta=0.1,
        warmup_steps=8,
        max_gradient_norm=1.0,
        validation_share=0.0,
        patience=1,
        epochs=5,
        batch_size=16,
        forward_tokens=16_384,
        max_tokens=2048,
        checkpoint_every_epochs=1,
        workers=workers,
        cpus_per_worker=4,
        use_gpu=True,
        max_worker_failures=2,
    )


class RunSpecification(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `run.json` holds: one training run.

    Attributes:
        dataset: Folder of a dataset version, as `dataset.build_dataset` writes it.
        base: Hugging Face folder of the base model (`config.json`, safetensors, tokenizer with a chat template).
        configuration: How to train.
        seed: Decides the adapter's first weights and the order of rows.
        ray_address: A Ray cluster to join, such as `ray-head:6379`; without one, Ray is started for the run on this
            machine and stopped after it. Workers of a cluster must see the dataset, the base and the run folder
            under the same paths.
    """

    dataset: str
    base: str
    configuration: TrainingConfiguration
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
    ray_address: str | None = None

    @property
    def fingerprint(self) -> str:
        """16 hex digits that are equal for runs that learn the same; checkpoints of other runs are never resumed."""
        learned = msgspec.structs.replace(self, ray_address=None)
        return hashlib.sha256(msgspec.json.encode(learned, order="deterministic")).hexdigest()[:16]


def read_specification(run_dir: Path) -> RunSpecification:
    """Reads `run.json`; relative paths in it count from the run folder.

    Raises:
        ValueError: The file is missing or not a specification; names the field and what was wanted.
    """
    path = run_dir / "run.json"
    try:
        specification = msgspec.json.decode(path.read_bytes(), type=RunSpecification)
    except FileNotFoundError as exc:
        raise ValueError(f"{path} does not exist; a run folder must hold one") from exc
    except msgspec.DecodeError as exc:
        raise ValueError(f"{path}: {exc}") from exc
    if specification.configuration.workers > specification.configuration.batch_size:
        raise ValueError(
            f"{path}: configuration.workers ({specification.configuration.workers}) must not exceed "
            f"configuration.batch_size ({specification.configuration.batch_size})"
        )
    specification = msgspec.structs.replace(
        specification,
        dataset=str((run_dir / specification.dataset).resolve()),
        base=str((run_dir / specification.base).resolve()),
    )
    for field, wanted in (("dataset", "manifest.json"), ("base", "config.json")):
        if not (Path(getattr(specification, field)) / wanted).is_file():
            raise ValueError(f"{path}: {field} must be a folder with a {wanted} in it")
    return specification


def write_specification(run_dir: Path, specification: RunSpecification) -> None:
    """Writes `run.json` into a run folder, making the folder if need be."""
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "run.json").write_bytes(msgspec.json.format(msgspec.json.encode(specification), indent=2) + b"\n")
