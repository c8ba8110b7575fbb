"""The trainer's gRPC edge."""

from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from gyre.api.trainer.v1 import training_pb2, training_pb2_grpc
from services.trainer.handlers import Training
from services.trainer.runs import Run


class TrainingServicer(training_pb2_grpc.TrainingServicer):
    """Translates between protobuf and the use cases."""

    def __init__(self, training: Training) -> None:
        self._training = training

    async def Start(  # noqa: N802 - the name that protos/ gives it
        self, request: training_pb2.StartRequest, context: Any
    ) -> training_pb2.StartResponse:
        """Begin a run on what there is."""
        run = await self._training.start(request.tenant, request.task)
        return training_pb2.StartResponse(run_id=run.run_id)

    async def Status(  # noqa: N802 - the name that protos/ gives it
        self, request: training_pb2.StatusRequest, context: Any
    ) -> training_pb2.StatusResponse:
        """Tell how far runs are, and how many labels tasks have gained."""
        return training_pb2.StatusResponse(
            runs=[_run(run) for run in self._training.runs(request.run_id)],
            labels=[
                training_pb2.LabelCount(tenant=tenant, task=task, labels=labels, needed=needed)
                for tenant, task, labels, needed in self._training.label_counts()
            ],
        )

    async def Cancel(  # noqa: N802 - the name that protos/ gives it
        self, request: training_pb2.CancelRequest, context: Any
    ) -> training_pb2.CancelResponse:
        """Cancel a run."""
        await self._training.cancel(request.run_id)
        return training_pb2.CancelResponse()


def _run(run: Run) -> training_pb2.Run:
    started = Timestamp()
    started.FromDatetime(run.started_at)
    return training_pb2.Run(
        run_id=run.run_id,
        tenant=run.tenant,
        task=run.task,
        state=training_pb2.RunState.Value(f"RUN_STATE_{run.state.upper()}"),
        started_at=started,
        training_rows=run.training_rows,
        holdout_rows=run.holdout_rows,
        step=run.progress.step,
        steps=run.progress.steps,
        loss=run.progress.loss,
        tokens_per_second=run.progress.tokens_per_second,
        seconds_left=run.progress.seconds_left,
        gated=run.gated,
        gate_items=run.gate_items,
        detail=run.detail,
        candidate_id=run.candidate_id,
    )
