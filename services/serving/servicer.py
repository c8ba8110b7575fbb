"""Serving's gRPC edge."""

from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from gyre.api.serving.v1 import serving_pb2, serving_pb2_grpc
from schemas.events import Deployment
from services.runtime.callers import asker
from services.serving.domain.deployments import Trial
from services.serving.handlers import Serving


class ServingServicer(serving_pb2_grpc.ServingServicer):
    """Translates between protobuf and the use cases."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    async def Deploy(  # noqa: N802 - the name that protos/ gives it
        self, request: serving_pb2.DeployRequest, context: Any
    ) -> serving_pb2.DeployResponse:
        """Load a candidate for trial."""
        placed = await self._serving.try_out(request.tenant, request.task, request.candidate_id, request.adapter_path)
        return serving_pb2.DeployResponse(model=placed.model, model_version=str(placed.version))

    async def Rollback(  # noqa: N802 - the name that protos/ gives it
        self, request: serving_pb2.RollbackRequest, context: Any
    ) -> serving_pb2.RollbackResponse:
        """Go back to what was live before."""
        deployment = await self._serving.roll_back(
            request.tenant, request.task, request.reason, asked_by=asker(request.asked_by, context)
        )
        return serving_pb2.RollbackResponse(candidate_id=deployment.candidate_id)

    async def Export(  # noqa: N802 - the name that protos/ gives it
        self, request: serving_pb2.ExportRequest, context: Any
    ) -> serving_pb2.ExportResponse:
        """Write what is live as a folder."""
        folder, files = await self._serving.export(request.tenant, request.task)
        return serving_pb2.ExportResponse(directory=folder, files=files)

    async def Status(  # noqa: N802 - the name that protos/ gives it
        self, request: serving_pb2.StatusRequest, context: Any
    ) -> serving_pb2.StatusResponse:
        """Tell what is live and on trial."""
        return serving_pb2.StatusResponse(
            deployments=[
                _status(what, complaint, idle=self._serving.is_idle(what)) for what, complaint in self._serving.status()
            ]
        )


def _status(what: Deployment | Trial, complaint: str, *, idle: bool) -> serving_pb2.DeploymentStatus:
    status = serving_pb2.DeploymentStatus(
        tenant=what.tenant,
        task=what.task,
        candidate_id=what.candidate_id,
        healthy=not complaint,
        detail=complaint,
    )
    if isinstance(what, Trial):
        status.model, status.model_version, status.state = what.placed.model, str(what.placed.version), "trial"
        return status
    status.model, status.model_version = what.model, what.model_version
    if idle:
        status.state = "idle"
    elif what.state == "live":
        status.state = "live" if what.share >= 1 else "canary" if what.share > 0 else "shadow"
    else:
        status.state = "rolled_back"
    at = Timestamp()
    at.FromDatetime(what.deployed_at)
    status.deployed_at.CopyFrom(at)
    return status
