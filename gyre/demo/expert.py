"""The replayed expert: a stand-in for a person, who answers each claimed item with the traffic's ground truth."""

import asyncio
from collections.abc import Callable, Mapping

import grpc
import grpc.aio

from gyre.api.triage.v1 import review_pb2, review_pb2_grpc
from gyre.demo.checker import is_right
from gyre.demo.traffic import TrafficRequest

IDLE_SECONDS = 5.0
TIMEOUT_SECONDS = 10.0


async def answer_queue(
    triage: str,
    token: str,
    asked: Mapping[str, TrafficRequest],
    flagged: Callable[[], None],
    quiet_seconds: float = IDLE_SECONDS,
) -> int:
    """Claim items until none has come for a while, and answer each; return how many were labelled.

    Items that are not among `asked` are skipped, on record: what is held out for measuring is never learned from.

    Args:
        triage: Address of the Review service.
        token: Of the expert's account.
        asked: The requests that may be answered, by the interaction's id.
        flagged: Called after each label.
        quiet_seconds: How long an empty queue means that it is done.
    """
    labelled, quiet = 0, 0.0
    shown = (("authorization", f"Bearer {token}"),)
    async with grpc.aio.insecure_channel(triage) as channel:
        review = review_pb2_grpc.ReviewStub(channel)
        while quiet < quiet_seconds:
            try:
                claim = await review.Claim(review_pb2.ClaimRequest(), metadata=shown, timeout=TIMEOUT_SECONDS)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.NOT_FOUND:
                    raise
                await asyncio.sleep(0.25)
                quiet += 0.25
                continue
            quiet = 0.0
            request = asked.get(claim.item.request_id)
            if request is None:
                skip = review_pb2.SkipRequest(lease=claim.lease, reason="kept unseen, to measure with")
                await review.Skip(skip, metadata=shown, timeout=TIMEOUT_SECONDS)
                continue
            right = is_right(request, claim.item.answer)
            submit = review_pb2.SubmitRequest(
                lease=claim.lease,
                outcome=review_pb2.OUTCOME_CONFIRMED if right else review_pb2.OUTCOME_CORRECTED,
                answer=claim.item.answer if right else request.expected_call_json,
                comment="replayed from the traffic's ground truth",
            )
            try:
                await review.Submit(submit, metadata=shown, timeout=TIMEOUT_SECONDS)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                    raise
                skip = review_pb2.SkipRequest(lease=claim.lease, reason=f"the ground truth: {error.details()}"[:1000])
                await review.Skip(skip, metadata=shown, timeout=TIMEOUT_SECONDS)
                continue
            labelled += 1
            flagged()
    return labelled
