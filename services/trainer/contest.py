"""The contest: candidate and incumbent are asked the same held-out requests, and the gate judges."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from schemas.answers import parse_call, same_answer
from schemas.events import Candidate, GateAnswer
from schemas.exports import folder_sha256
from schemas.prompts import Generated, Prompt
from services.runtime import telemetry
from services.runtime.clock import Clock
from services.runtime.errors import Retryable
from services.trainer.answers import answer_schema
from services.trainer.dataset import LabelledRow, read_rows
from services.trainer.domain import Asked, Case, Contestant, highest, incumbent
from services.trainer.gate import Condition, GateRule, is_prompt, judge, keeps_silent, percentile, retains
from services.trainer.ports import Models, Trial
from services.trainer.report import report
from services.trainer.runs import Run, Runs
from services.trainer.state import Knowledge
from services.trainer.training.configuration import read_specification

T = TypeVar("T")
ANSWER_SECONDS = 120.0
RETRY_SECONDS = 2.0
# In which what is away must be there again, or the run has failed.
PATIENCE_SECONDS = 600.0


async def patiently(attempt: Callable[[], Awaitable[T]], clock: Clock, seconds: float = math.inf) -> T:
    """Try again and again while it is `Retryable`, for so many seconds."""
    deadline = clock.monotonic() + seconds
    while True:
        try:
            return await attempt()
        except Retryable as error:
            if clock.monotonic() >= deadline:
                raise
            telemetry.log().warning("retrying", error=str(error))
        await asyncio.sleep(RETRY_SECONDS)


@dataclass(frozen=True)
class _Answer:
    """What a model answered, what that took, and in how many seconds."""

    text: str
    generated: Generated
    seconds: float


class Contest:
    """Holds candidates against what is live."""

    def __init__(
        self, knowledge: Knowledge, runs: Runs, trial: Trial, models: Models, clock: Clock, in_flight: int
    ) -> None:
        self._knowledge = knowledge
        self._runs = runs
        self._trial = trial
        self._models = models
        self._clock = clock
        self._in_flight = in_flight

    async def hold(self, run: Run) -> Candidate:
        """Return what a trained run made, and the gate's verdict on it; the report of it lies in the run's folder.

        Raises:
            Rejected: The bundle has no such task any more, or serving or a model refuses.
            Retryable: One of them stayed away.
        """
        settings, learning = self._knowledge.task(run.tenant, run.task)
        bundle, bundle_version = self._knowledge.bundle, self._knowledge.bundle_version
        assert bundle is not None, "it has the task"
        folder = self._runs.folder(run)
        metrics = msgspec.json.decode((folder / "metrics.json").read_bytes())
        dataset = self._runs.dataset(run)
        left_out = frozenset(metrics["label_ids_too_long"])
        given = await asyncio.to_thread(read_rows, dataset, "train")
        learned = [row for row in given if row.label_id not in left_out]
        not_learned = {row.request_id for row in given} - {row.request_id for row in learned}
        learned_ids = tuple(request_id for request_id in run.shown if request_id not in not_learned)
        holdout = await asyncio.to_thread(read_rows, dataset, "holdout")
        schema = answer_schema((row.completion, row.tools) for row in learned)
        before = incumbent(bundle, settings, self._knowledge.deployments.get((run.tenant, run.task)))
        adapter, adapter_sha256 = self._runs.adapter(run), folder_sha256(folder / "adapter")
        model, version = await patiently(
            lambda: self._trial.deploy(run.tenant, run.task, run.run_id, adapter), self._clock, PATIENCE_SECONDS
        )
        candidate = Contestant(
            name=run.run_id,
            model=model,
            version=version,
            prompt=settings.specialist_prompt,
            schema=msgspec.json.encode(schema).decode() if schema else "",
            specialist=True,
            function_call=settings.answers == "function-call",
            max_tokens=settings.max_tokens,
            price=settings.specialist_price,
        )
        cases = [Case.of(case) for case in bundle.gate.get(run.task, ())]
        retained, silent = [case for case in cases if case.answer], [case for case in cases if case.never]
        asked: list[Asked] = [*holdout, *retained]
        run.gated, run.gate_items = 0, 2 * len(asked) + len(silent)
        own, others = await self._answers(run, candidate, asked), await self._answers(run, before, asked)
        said = await self._answers(run, candidate, silent)

        right = [row.completion for row in holdout] + [case.answer for case in retained]
        own_right, others_right = _right(own, right), _right(others, right)
        items, slices = len(holdout), [_slices(row) for row in holdout]
        verdict = judge(
            own_right[:items],
            others_right[:items],
            GateRule(
                minimum_items=learning.holdout_minimum,
                minimum_gain=learning.minimum_gain,
                attempt=1 + self._runs.refused_against(run.tenant, run.task, before.name),
            ),
            slices,
        )
        conditions = list(verdict.conditions)
        if retained:
            conditions.append(retains(own_right[items:], others_right[items:], learning.retained_loss))
        if silent:
            conditions.append(
                keeps_silent([case.is_broken_by(answer.text) for case, answer in zip(silent, said, strict=True)])
            )
        latency_ms = bundle.routing_of(run.task).latency_ms
        if latency_ms is not None:
            conditions.append(is_prompt([answer.seconds for answer in own], latency_ms))
        erased = len(self._knowledge.erased.intersection(learned_ids))
        if erased:
            conditions.append(
                Condition(False, f"it learned from {erased} requests that were erased meanwhile; none is allowed")
            )
        made = Candidate(
            candidate_id=run.run_id,  # so that the same run, told twice, is the same candidate
            run_id=run.run_id,
            tenant=run.tenant,
            task=run.task,
            created_at=self._clock.now(),
            verdict="promote" if all(condition.met for condition in conditions) else "refuse",
            reasons=tuple(map(str, conditions)),
            base_model=Path(read_specification(folder).base).name,
            adapter_path=adapter,
            system_prompt=candidate.prompt,
            response_schema=candidate.schema,
            dataset_id=dataset.name,
            training_request_ids=learned_ids,
            holdout_request_ids=tuple(row.request_id for row in holdout),
            incumbent=before.name,
            candidate_accuracy=verdict.candidate_accuracy,
            incumbent_accuracy=verdict.incumbent_accuracy,
            candidate_answers=_told(own, own_right)[:items],
            incumbent_answers=_told(others, others_right)[:items],
            gain=verdict.difference,
            gain_low=verdict.interval[0],
            gain_high=verdict.interval[1],
            confidence=verdict.confidence,
            latency_ms=_latency_ms(own),
            incumbent_latency_ms=_latency_ms(others),
            cost_of_thousand=_cost_of_thousand(candidate, own),
            incumbent_cost_of_thousand=_cost_of_thousand(before, others),
            adapter_sha256=adapter_sha256,
            training_tokens=metrics["tokens"],
            training_seconds=metrics["training_seconds"],
            sensitivity=highest(row.sensitivity for row in learned),
            bundle_version=bundle_version,
        )
        digest = self._runs.save_report(run, report(made, slices))
        return msgspec.structs.replace(made, report_sha256=digest)

    async def _answers(self, run: Run, contestant: Contestant, asked: Sequence[Asked]) -> list[_Answer]:
        free = asyncio.Semaphore(self._in_flight)

        async def answered(each: Asked) -> _Answer:
            question = contestant.question(each)
            async with free:
                return await patiently(lambda: timed(question), self._clock, PATIENCE_SECONDS)

        async def timed(question: Prompt) -> _Answer:
            started = self._clock.monotonic()
            text, generated = await self._models.answer(question, ANSWER_SECONDS)
            run.gated += 1
            return _Answer(text, generated, self._clock.monotonic() - started)

        try:
            # A group, so that one that fails takes the others along.
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(answered(each)) for each in asked]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        return [task.result() for task in tasks]


def _slices(row: LabelledRow) -> list[str]:
    """Return what a request is looked at among."""
    call = parse_call(row.completion)
    return [f"sensitivity {row.sensitivity}", *([f"function {call[0]}"] if call is not None else [])]


def _right(answers: Sequence[_Answer], wanted: Sequence[str]) -> list[bool]:
    return [same_answer(answer.text, right) for answer, right in zip(answers, wanted, strict=True)]


def _told(answers: Sequence[_Answer], right: Sequence[bool]) -> tuple[GateAnswer, ...]:
    return tuple(
        GateAnswer(right=is_right, sum_logprob=answer.generated.sum_logprob)
        for answer, is_right in zip(answers, right, strict=True)
    )


def _latency_ms(answers: Sequence[_Answer]) -> float:
    return 1000 * percentile([answer.seconds for answer in answers], 0.95)


def _cost_of_thousand(contestant: Contestant, answers: Sequence[_Answer]) -> float:
    taken = [answer.generated for answer in answers]
    cost = contestant.price.of(sum(g.prompt_tokens for g in taken), sum(g.completion_tokens for g in taken))
    return 1000 * cost / len(taken)
