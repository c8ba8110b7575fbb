"""Governance's gRPC edge."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from gyre.api.governance.v1 import governance_pb2, governance_pb2_grpc
from gyre.api.types.v1 import types_pb2
from services.governance import handlers
from services.governance.domain.clearance import Clearance
from services.governance.domain.guardrails import Asked, Finding, Mask, Verdict
from services.governance.state import RulesInForce
from services.runtime.clock import Clock
from services.runtime.wire import sensitivity_value

T = TypeVar("T")
# A millisecond or two of reading, many more where names are looked for.
LONG_CHARACTERS = 4096
_VERDICTS = {
    Verdict.PASS: governance_pb2.VERDICT_PASS,
    Verdict.MASK: governance_pb2.VERDICT_MASK,
    Verdict.REFUSE: governance_pb2.VERDICT_REFUSE,
}


class GovernanceServicer(governance_pb2_grpc.GovernanceServicer):
    """Answers by the rules in force when a call begins."""

    def __init__(self, in_force: RulesInForce, clock: Clock) -> None:
        self._in_force = in_force
        self._clock = clock
        # One thread, for schemas are tried one at a time: those that take long must not take the others' threads.
        self._schemas = ThreadPoolExecutor(1, "schemas")

    async def CheckInput(  # noqa: N802 - the name that protos/ gives it
        self, request: governance_pb2.CheckInputRequest, context: Any
    ) -> governance_pb2.CheckInputResponse:
        """Decide about a request's texts."""
        rules = self._in_force.now()
        checked = await self._read(
            rules.reads_slowly(rules.tenant(request.application), "input")
            or sum(map(len, request.texts)) > LONG_CHARACTERS,
            False,
            handlers.check_input,
            rules,
            request.application,
            request.task,
            request.texts,
            frozenset(request.instructions),
            self._clock,
        )
        return governance_pb2.CheckInputResponse(
            verdict=_VERDICTS[checked.screened.verdict],
            texts=checked.screened.texts,
            findings=map(_finding, checked.screened.findings),
            sensitivity=sensitivity_value(checked.sensitivity),
            clearances=map(_clearance, checked.clearances),
            bundle_version=rules.version,
            policy_us=checked.policy_us,
            masks=map(_mask, checked.screened.masks),
        )

    async def CheckOutput(  # noqa: N802 - the name that protos/ gives it
        self, request: governance_pb2.CheckOutputRequest, context: Any
    ) -> governance_pb2.CheckOutputResponse:
        """Decide about an answer's text."""
        rules = self._in_force.now()
        asked = Asked(tuple(request.instructions), request.schema)
        screened = await self._read(
            rules.reads_slowly(rules.tenant(request.application), "output")
            or len(request.text) + sum(map(len, request.instructions)) > LONG_CHARACTERS,
            bool(request.schema),
            handlers.check_output,
            rules,
            request.application,
            request.task,
            request.text,
            asked,
        )
        return governance_pb2.CheckOutputResponse(
            verdict=_VERDICTS[screened.verdict],
            text=screened.texts[0],
            findings=map(_finding, screened.findings),
            bundle_version=rules.version,
            masks=map(_mask, screened.masks),
        )

    async def CheckDocument(  # noqa: N802 - the name that protos/ gives it
        self, request: governance_pb2.CheckDocumentRequest, context: Any
    ) -> governance_pb2.CheckDocumentResponse:
        """Decide about a document."""
        rules = self._in_force.now()
        screened = await self._read(
            rules.reads_slowly(request.tenant, "document") or len(request.title) + len(request.text) > LONG_CHARACTERS,
            False,
            handlers.check_document,
            rules,
            request.tenant,
            request.title,
            request.text,
        )
        title, text = screened.texts
        level = screened.sensitivity
        return governance_pb2.CheckDocumentResponse(
            verdict=_VERDICTS[screened.verdict],
            title=title,
            text=text,
            findings=map(_finding, screened.findings),
            sensitivity=sensitivity_value(level) if level else types_pb2.SENSITIVITY_UNSPECIFIED,
            bundle_version=rules.version,
        )

    async def _read(self, takes_long: bool, has_schema: bool, check: Callable[..., T], *args: Any) -> T:
        """Check at once, or on a thread what may take long, so that the texts of others need not wait for it."""
        if not (takes_long or has_schema):
            return check(*args)
        executor = self._schemas if has_schema else None
        return await asyncio.get_running_loop().run_in_executor(executor, check, *args)


def _clearance(clearance: Clearance) -> governance_pb2.Clearance:
    return governance_pb2.Clearance(
        sensitivity=sensitivity_value(clearance.sensitivity),
        models=clearance.models,
        policies=clearance.policies,
        forbidden=[
            governance_pb2.Forbidden(model=model, policies=policies) for model, policies in clearance.forbidden.items()
        ],
    )


def _finding(finding: Finding) -> types_pb2.Finding:
    return types_pb2.Finding(
        kind=finding.kind,
        action=finding.action,
        text_index=finding.text_index,
        start=finding.start,
        end=finding.end,
    )


def _mask(mask: Mask) -> governance_pb2.Mask:
    return governance_pb2.Mask(placeholder=mask.placeholder, value=mask.value, text=mask.text)
