"""Context's gRPC edge."""

from typing import Any

from gyre.api.context.v1 import context_pb2, context_pb2_grpc
from services.context import handlers
from services.context.domain.memory import Memory, message_tokens
from services.context.ports import EventLog, Governance, Index
from services.runtime.clock import Clock
from services.runtime.wire import message_value, sensitivity_of, sensitivity_value


class ContextServicer(context_pb2_grpc.ContextServicer):
    """Answers from the index and the memory of this replica."""

    def __init__(
        self, index: Index, memory: Memory, governance: Governance, log: EventLog, memory_share: float, clock: Clock
    ) -> None:
        self._index = index
        self._memory = memory
        self._governance = governance
        self._log = log
        self._memory_share = memory_share
        self._clock = clock

    async def Stitch(  # noqa: N802 - the name that protos/ gives it
        self, request: context_pb2.StitchRequest, context: Any
    ) -> context_pb2.StitchResponse:
        """Return passages and earlier turns within a budget."""
        stitched = await handlers.stitch(
            handlers.Request(
                tenant=request.tenant,
                query=request.query,
                conversation_id=request.conversation_id,
                budget_tokens=request.budget_tokens,
                max_sensitivity=sensitivity_of(request.max_sensitivity),
            ),
            self._index,
            self._memory,
            self._memory_share,
            self._clock,
        )
        return context_pb2.StitchResponse(
            passages=[
                context_pb2.Passage(
                    document_id=passage.document_id,
                    title=passage.title,
                    text=passage.text,
                    sensitivity=sensitivity_value(passage.sensitivity),
                    tokens=passage.tokens,
                    score=passage.score,
                )
                for passage in stitched.passages
            ],
            turns=[
                context_pb2.Turn(
                    message=message_value(message),
                    sensitivity=sensitivity_value(turn.sensitivity),
                    tokens=message_tokens(message),
                )
                for turn in stitched.turns
                for message in turn.messages
            ],
            tokens=stitched.tokens,
            asked_again_request_id=stitched.asked_again,
        )

    async def Ingest(  # noqa: N802 - the name that protos/ gives it
        self, request: context_pb2.IngestRequest, context: Any
    ) -> context_pb2.IngestResponse:
        """Write a document to the documents topic, if governance lets it be kept."""
        await handlers.ingest(
            tenant=request.tenant,
            document_id=request.document_id,
            title=request.title,
            text=request.text,
            sensitivity=sensitivity_of(request.sensitivity),
            source=request.source,
            governance=self._governance,
            log=self._log,
            clock=self._clock,
        )
        return context_pb2.IngestResponse()

    async def Forget(  # noqa: N802 - the name that protos/ gives it
        self, request: context_pb2.ForgetRequest, context: Any
    ) -> context_pb2.ForgetResponse:
        """Write that a document or a conversation is to be forgotten."""
        if request.WhichOneof("what") == "document_id":
            await handlers.forget_document(request.tenant, request.document_id, self._log, self._clock)
        else:
            await handlers.forget_conversation(request.tenant, request.conversation_id, self._log, self._clock)
        return context_pb2.ForgetResponse()
