"""Ray for one run: started (or joined), its workers run and restarted, and gone again."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import msgspec
import ray
import ray.train
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from services.trainer.training.configuration import RunSpecification
from services.trainer.training.progress import Progress

# Ray's least is 75 MB; nothing but the pickled training function passes through it.
_OBJECT_STORE_BYTES = 100 * 1024 * 1024


class RunFailedError(Exception):
    """Workers kept failing, or Ray itself did."""


def run(specification: RunSpecification, run_dir: Path, work_dir: Path) -> dict[str, Any]:
    """Trains, and leaves the last checkpoint's adapter in `work_dir/adapter`.

    Goes on from the last checkpoint that a run with the same `work_dir` reached.

    Args:
        specification: The run.
        run_dir: Where progress is told.
        work_dir: Checkpoints and cached activations; every worker must see it under this path.

    Returns:
        The run's metrics (see `loop`).

    Raises:
        ValueError: The dataset or the base is of no use.
        KeyboardInterrupt: The process was told to stop.
        RunFailedError: Workers failed more often than the configuration allows.
    """
    configuration = specification.configuration
    trainer = TorchTrainer(
        _train_on_worker,  # type: ignore[arg-type]  # its return value is read below; ray types it as none
        train_loop_config={
            "specification": msgspec.json.encode(specification).decode(),
            "run_dir": str(run_dir),
            "work_dir": str(work_dir),
        },
        scaling_config=ScalingConfig(
            num_workers=configuration.workers,
            use_gpu=configuration.use_gpu,
            resources_per_worker={
                "CPU": configuration.cpus_per_worker,
                **({"GPU": 1} if configuration.use_gpu else {}),
            },
        ),
        torch_config=TorchConfig(backend="nccl" if configuration.use_gpu else "gloo"),
        run_config=RunConfig(
            name="checkpoints",
            storage_path=str(work_dir),
            failure_config=FailureConfig(max_failures=configuration.max_worker_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
    )
    try:
        # Any, because ray.train still exports the types of its first version, which had no return_value.
        result: Any = trainer.fit()
    except SystemExit as exc:
        # What Ray's own handler makes of a SIGINT, which it sets while it trains.
        raise KeyboardInterrupt from exc
    except ray.train.TrainingFailedError as exc:
        raise RunFailedError(str(exc)) from exc
    if result.return_value is not None:
        raise ValueError(result.return_value)
    assert result.checkpoint is not None, "every epoch count ends in a checkpoint"
    with result.checkpoint.as_directory() as folder:
        shutil.copytree(Path(folder) / "adapter", work_dir / "adapter", dirs_exist_ok=True)
    metrics: dict[str, Any] = result.metrics
    return metrics


@contextmanager
def ray_for_run(specification: RunSpecification, run_dir: Path) -> Iterator[None]:
    """Joins the specification's cluster, or starts Ray here; within it Ray is up, after it none of it is left.

    When a run fails on a Ray started here, Ray's logs are kept in `run_dir/ray-logs`.
    """
    configuration = specification.configuration
    environment = {"env_vars": {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}}
    if specification.ray_address is not None:
        ray.init(address=specification.ray_address, runtime_env=environment, configure_logging=False)
        try:
            yield
        finally:
            ray.shutdown()
        return
    # Sockets lie below it and their paths must stay under 107 characters. Named after the run, so that what a killed
    # run left behind is found again.
    temporary = Path(tempfile.gettempdir()) / f"gyre-ray-{hashlib.sha256(str(run_dir).encode()).hexdigest()[:12]}"
    shutil.rmtree(temporary, ignore_errors=True)
    logs = run_dir / "ray-logs"
    shutil.rmtree(logs, ignore_errors=True)
    try:
        ray.init(
            address="local",
            num_cpus=configuration.workers * configuration.cpus_per_worker,
            object_store_memory=_OBJECT_STORE_BYTES,
            include_dashboard=False,
            runtime_env=environment,
            configure_logging=False,
            log_to_driver=False,
            _temp_dir=str(temporary),
        )
        yield
    except Exception:
        if (temporary / "session_latest" / "logs").is_dir():
            shutil.copytree(temporary / "session_latest" / "logs", logs, ignore_dangling_symlinks=True)
        raise
    finally:
        ray.shutdown()
        shutil.rmtree(temporary, ignore_errors=True)


def _train_on_worker(config: dict[str, str]) -> str | None:
    """What each Ray worker runs. Returns why the run is of no use, if it is: Ray would only try that again."""
    # Here, and not above, since the driver and Ray's controller load this module too and have no use for them.
    import torch.distributed
    from ray.train.torch import get_device, prepare_model
    from torch.nn.parallel import DistributedDataParallel

    from services.trainer.training.loop import Worker, train

    specification = msgspec.json.decode(config["specification"], type=RunSpecification)
    context = ray.train.get_context()
    size = context.get_world_size()

    def total(value: torch.Tensor) -> torch.Tensor:
        if size > 1:
            torch.distributed.all_reduce(value)
        return value

    worker = Worker(
        rank=context.get_world_rank(),
        size=size,
        device=get_device(),
        parallel=prepare_model if size > 1 else lambda module: module,
        unshared=lambda module: module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext(),
        wait_for_others=torch.distributed.barrier,
        total=total,
    )
    checkpoint = ray.train.get_checkpoint()

    def save_checkpoint(fill: Callable[[Path], None], metrics: dict[str, Any]) -> None:
        if worker.rank > 0:
            ray.train.report(metrics)
            return
        with tempfile.TemporaryDirectory() as folder:
            fill(Path(folder))
            ray.train.report(metrics, checkpoint=Checkpoint.from_directory(folder))

    try:
        train(
            specification,
            work_dir=Path(config["work_dir"]),
            progress=Progress(Path(config["run_dir"])),
            worker=worker,
            resume_from=None if checkpoint is None else Path(checkpoint.path),
            save_checkpoint=save_checkpoint,
        )
    except ValueError as exc:
        return str(exc)
    return None
