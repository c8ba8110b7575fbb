"""The trainer's ports, kept in memory, and labels made for the purpose. Files are real."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from schemas.bundle import Bundle, GateCase, Learning, Price, Routing, load_bundle
from schemas.events import BundlePublished, Candidate, Deployment, EdgeCase, Label, Message, Sensitivity, Tool
from schemas.prompts import Generated, Prompt
from services.runtime.clock import Clock
from services.runtime.errors import Rejected, Retryable
from services.trainer.contest import Contest
from services.trainer.dataset import read_rows
from services.trainer.handlers import Recipe, Training
from services.trainer.ports import Progress
from services.trainer.runs import Run, Runs
from services.trainer.state import Knowledge
from services.trainer.training.configuration import cpu, read_specification

NOW = datetime(2026, 3, 1, tzinfo=UTC)
TENANT, TASK, OTHER_TASK = "customer-care", "consumer-services", "other-services"
# Looking for personal data takes seconds to start, so that is done where it is asked for alone.
LEARNING = Learning(labels_needed=40, holdout_share=0.4, holdout_minimum=8, minimum_gain=0.0, personal_data=())
TRACK = Tool(
    name="track", parameters='{"type": "object", "properties": {"order": {"type": "integer"}}, "required": ["order"]}'
)


def right_answer(question: str) -> str:
    """What the expert says of `Where is order 7?`."""
    number = int(question.removeprefix("Where is order ").removesuffix("?"))
    return json.dumps({"name": "track", "arguments": {"order": number}})


def edge_case(number: int, **changes: Any) -> EdgeCase:
    """The edge case of one request."""
    fields: dict[str, Any] = {
        "request_id": f"request-{number:03}",
        "tenant": TENANT,
        "task": TASK,
        "flagged_at": NOW,
        "score": 1.0,
        "threshold": 0.5,
        "explored": False,
        "propensity": 1.0,
        "messages": (Message(role="user", content=f"Where is order {number}?"),),
        "tools": (TRACK,),
        "answer": "I do not know.",
        "sensitivity": Sensitivity.INTERNAL,
        "bundle_version": "b1",
    }
    return EdgeCase(**{**fields, **changes})


def label(number: int, **changes: Any) -> Label:
    """An expert's answer to it."""
    fields: dict[str, Any] = {
        "label_id": f"label-{number:03}",
        "request_id": f"request-{number:03}",
        "tenant": TENANT,
        "task": TASK,
        "expert": "expert-1",
        "labelled_at": NOW + timedelta(seconds=number),
        "outcome": "corrected",
        "answer": right_answer(f"Where is order {number}?"),
        "sensitivity": Sensitivity.INTERNAL,
        "bundle_version": "b1",
    }
    return Label(**{**fields, **changes})


class FakeLearner:
    """Writes what a training leaves, as soon as it may; remembers what it was shown."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.reason = ""  # why it ends without an adapter
        self.too_long: list[str] = []
        self.started: list[str] = []
        self.cancelled: list[str] = []
        self.shown: list[set[str]] = []  # request ids

    async def learn(self, run_dir: Path) -> AsyncGenerator[Progress, None]:
        self.started.append(run_dir.name)
        rows = read_rows(Path(read_specification(run_dir).dataset), "train")
        self.shown.append({row.request_id for row in rows})
        try:
            yield Progress(step=1, steps=2)
            await self.may_end.wait()
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.append(run_dir.name)
            raise
        if self.reason:
            raise Rejected(self.reason)
        metrics = {"tokens": 1200, "training_seconds": 34.5, "label_ids_too_long": self.too_long}
        (run_dir / "metrics.json").write_text(json.dumps(metrics))
        (run_dir / "adapter").mkdir(exist_ok=True)
        (run_dir / "adapter" / "adapter_model.safetensors").write_text(run_dir.name)
        yield Progress(step=2, steps=2)


class Absent:
    """Stands for what is away for so many calls."""

    def __init__(self) -> None:
        self.away = 0

    def answer_or_be_away(self) -> None:
        if self.away:
            self.away -= 1
            raise Retryable("away")


class FakeTrial(Absent):
    """Places each candidate as a version of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.candidates: list[str] = []

    async def deploy(self, tenant: str, task: str, candidate_id: str, adapter_path: str) -> tuple[str, str]:
        self.answer_or_be_away()
        if candidate_id not in self.candidates:
            self.candidates.append(candidate_id)
        return f"specialist-{tenant}-{task}", str(self.candidates.index(candidate_id) + 1)


class FakeModels(Absent):
    """Answers rightly, but for the models that are `wrong`, and what of one model and question is in `said`."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong = {("small", "")}
        self.said: dict[tuple[str, str, str], str] = {}  # by model, version and question
        self.asked: Counter[tuple[str, str]] = Counter()
        self.questions: list[str] = []
        self.most_at_once = 0
        self._now = 0

    async def answer(self, prompt: Prompt, timeout_seconds: float) -> tuple[str, Generated]:
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        await asyncio.sleep(0)
        self._now -= 1
        self.answer_or_be_away()
        who = (prompt.model, prompt.version)
        self.asked[who] += 1
        question = prompt.messages[-1]["content"]
        self.questions.append(question)
        said = Generated(
            model_version=prompt.version,
            finish_reason="stop",
            prompt_tokens=1,
            completion_tokens=1,
            sum_logprob=0.0,
            mean_logprob=0.0,
            min_logprob=0.0,
        )
        if (*who, question) in self.said:
            return self.said[*who, question], said
        return "I do not know." if who in self.wrong else right_answer(question), said


class FakeAnnouncer(Absent):
    """Remembers what it was told. With `acknowledges` cleared it never says so."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Candidate] = []
        self.acknowledges = asyncio.Event()
        self.acknowledges.set()

    async def candidate(self, candidate: Candidate) -> None:
        self.answer_or_be_away()
        self.told.append(candidate)
        await self.acknowledges.wait()


class World:
    """The trainer, and all that it needs."""

    def __init__(self, folder: Path) -> None:
        self.artifacts = folder / "artifacts"
        self.base = folder / "models" / "tiny"
        self.base.mkdir(parents=True)
        (self.base / "config.json").write_text("{}")
        self.knowledge = Knowledge()
        self.learner, self.trial, self.models = FakeLearner(), FakeTrial(), FakeModels()
        self.announcer = FakeAnnouncer()
        self._ids: Iterator[str] = (f"run-{n:04}" for n in range(10_000))
        self._seconds = 0
        self.publish()
        self.restart()
        self.training.resume()

    def restart(self) -> None:
        """A new process: it knows what topics and files say. What it goes on with, `resume` decides."""
        clock = Clock(now=self._now, new_id=lambda: next(self._ids))
        self.runs = Runs(self.artifacts)
        self.training = Training(
            self.knowledge,
            self.runs,
            self.learner,
            Contest(self.knowledge, self.runs, self.trial, self.models, clock, in_flight=3),
            self.announcer,
            clock,
            Recipe(cpu(), self.base, None),
        )

    def _now(self) -> datetime:
        self._seconds += 1
        return NOW + timedelta(seconds=self._seconds)

    def publish(
        self,
        version: str = "b1",
        gate: Sequence[GateCase] = (),
        routing: Routing | None = None,
        specialist_price: Price | None = None,
        **learning: Any,
    ) -> None:
        """Put a bundle in force: the sample one, with two tasks that learn, and cases for one of them."""
        sample = load_bundle(Path("deploy/bundle"))
        changes = {
            "learning": LEARNING.model_copy(update=learning),
            "routing": routing,
            "specialist_price": specialist_price or Price(),
        }
        task = sample.tasks[TASK].model_copy(update=changes)
        bundle: Bundle = sample.model_copy(update={"tasks": {TASK: task, OTHER_TASK: task}, "gate": {TASK: gate}})
        published = BundlePublished(version=version, published_at=NOW, content=bundle.model_dump_json())
        self.knowledge.take_bundle(published)

    def label(self, *numbers: int, **changes: Any) -> None:
        """Have requests labelled."""
        for number in numbers:
            self.knowledge.take_edge_case(edge_case(number))
            self.knowledge.take_label(label(number, **changes))

    def go_live(self, candidate: Candidate) -> None:
        """What serving says of a promoted candidate."""
        model, version = f"specialist-{TENANT}-{TASK}", str(self.trial.candidates.index(candidate.candidate_id) + 1)
        self.knowledge.take_deployment(
            Deployment(
                task_key=f"{TENANT}/{TASK}",
                tenant=TENANT,
                task=TASK,
                deployment_id="d1",
                state="live",
                candidate_id=candidate.candidate_id,
                model=model,
                model_version=version,
                adapter_path=candidate.adapter_path,
                system_prompt=candidate.system_prompt,
                response_schema=candidate.response_schema,
                deployed_at=NOW,
                reason="better",
            )
        )

    async def ended(self, run_id: str) -> Run:
        """Wait for a run's end."""
        async with asyncio.timeout(20):
            while not self.training.runs(run_id)[0].ended:
                await asyncio.sleep(0)
        return self.training.runs(run_id)[0]

    async def run(self) -> Run:
        """Start a run and wait for its end."""
        return await self.ended((await self.training.start(TENANT, TASK)).run_id)

    def saved(self, run_id: str) -> Run:
        """A run as its folder holds it."""
        path = self.artifacts / TENANT / TASK / "runs" / run_id / "run-state.json"
        return msgspec.json.decode(path.read_bytes(), type=Run)


async def until(condition: Any) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)
