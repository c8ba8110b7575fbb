"""Context's adapter of governance against a server of the same protos."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gyre.api.governance.v1 import governance_pb2, governance_pb2_grpc
from gyre.api.types.v1 import types_pb2
from schemas.events import Finding, Sensitivity
from services.context.adapters import RemoteGovernance
from services.context.ports import DocumentVerdict, Governance
from services.runtime import rpc
from services.runtime.errors import DeadlineExceeded, Retryable
from services.runtime.exchange import ExchangeChannel
from tests.served import channel_to


class GovernanceServer(governance_pb2_grpc.GovernanceServicer):
    verdict = governance_pb2.VERDICT_MASK

    async def CheckDocument(self, request: Any, context: Any) -> governance_pb2.CheckDocumentResponse:  # noqa: N802
        if request.text == "slow":
            await asyncio.sleep(60)
        return governance_pb2.CheckDocumentResponse(
            verdict=self.verdict,
            title=request.title,
            text="<EMAIL_1>",
            findings=[types_pb2.Finding(kind="email", action="mask", text_index=1, start=0, end=7)],
            sensitivity=types_pb2.SENSITIVITY_CONFIDENTIAL if request.title else types_pb2.SENSITIVITY_UNSPECIFIED,
            bundle_version="b1",
        )


@pytest.fixture
async def server() -> AsyncIterator[tuple[GovernanceServer, Governance]]:
    add, servicer = governance_pb2_grpc.add_GovernanceServicer_to_server, GovernanceServer()
    registration = rpc.Registration(add, servicer, "gyre.api.governance.v1.Governance")
    async with channel_to(registration) as channel:
        yield servicer, RemoteGovernance(channel, timeout_seconds=1)


async def test_a_verdict_on_a_document_arrives_whole(server: tuple[GovernanceServer, Governance]) -> None:
    finding = Finding(direction="document", kind="email", action="mask", text_index=1, start=0, end=7)
    verdict = await server[1].check_document("t", "Title", "a@b.com")
    assert verdict == DocumentVerdict(False, "Title", "<EMAIL_1>", Sensitivity.CONFIDENTIAL, (finding,), "b1")
    assert (await server[1].check_document("t", "", "a@b.com")).sensitivity is None


@pytest.mark.parametrize("verdict", [governance_pb2.VERDICT_REFUSE, governance_pb2.VERDICT_UNSPECIFIED])
async def test_what_is_no_verdict_that_lets_a_document_be_kept_does_not(
    server: tuple[GovernanceServer, Governance], verdict: governance_pb2.Verdict.ValueType
) -> None:
    server[0].verdict = verdict
    assert (await server[1].check_document("t", "", "x")).is_refused


async def test_a_verdict_that_does_not_come_is_none(server: tuple[GovernanceServer, Governance]) -> None:
    with pytest.raises(DeadlineExceeded):
        await server[1].check_document("t", "", "slow")
    async with ExchangeChannel("127.0.0.1:1") as channel:
        with pytest.raises(Retryable):
            await RemoteGovernance(channel, timeout_seconds=1).check_document("t", "", "x")
