"""Who waits for whom at governance's edge."""

import asyncio
import threading
from typing import Any

import pytest

from gyre.api.governance.v1 import governance_pb2
from services.governance import handlers
from services.governance.servicer import LONG_CHARACTERS, GovernanceServicer
from services.governance.state import RulesInForce
from services.runtime.clock import Clock
from tests.unit.governance.test_handlers import APPLICATION, SAMPLE, TASK, no_space, published

LONG = "a " * LONG_CHARACTERS


def servicer() -> GovernanceServicer:
    in_force = RulesInForce(no_space)
    in_force.take(published(SAMPLE))
    return GovernanceServicer(in_force, Clock())


def request(text: str, schema: str = "") -> governance_pb2.CheckOutputRequest:
    return governance_pb2.CheckOutputRequest(application=APPLICATION, task=TASK, text=text, schema=schema)


@pytest.mark.parametrize("slow", [request(LONG), request("{}", schema="{}")], ids=["a long text", "a schema"])
async def test_what_takes_long_holds_up_nobody_else(
    monkeypatch: pytest.MonkeyPatch, slow: governance_pb2.CheckOutputRequest
) -> None:
    entered, release, check = threading.Event(), threading.Event(), handlers.check_output

    def check_output(*arguments: Any) -> Any:
        if arguments[-2] == slow.text:
            entered.set()
            release.wait(20)
        return check(*arguments)

    monkeypatch.setattr(handlers, "check_output", check_output)
    governance = servicer()
    waiting = asyncio.create_task(governance.CheckOutput(slow, None))
    await asyncio.to_thread(entered.wait, 20)
    assert (await governance.CheckOutput(request("short"), None)).text == "short"
    assert not waiting.done()
    release.set()
    assert (await waiting).text == slow.text


async def test_a_long_request_and_a_long_document_are_read_like_short_ones() -> None:
    governance = servicer()
    text = f"{LONG}jo@example.com"
    asked = governance_pb2.CheckInputRequest(application=APPLICATION, task=TASK, texts=[text])
    assert (await governance.CheckInput(asked, None)).texts == [f"{LONG}<EMAIL_1>"]
    document = governance_pb2.CheckDocumentRequest(tenant=SAMPLE.applications[APPLICATION].tenant, text=text)
    assert (await governance.CheckDocument(document, None)).verdict != governance_pb2.VERDICT_UNSPECIFIED
