"""The router's ports as scripted fakes, and a bundle to run on."""

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from schemas.bundle import Bundle
from schemas.events import Deployment, Feedback, Finding, Interaction, Message, Sensitivity, Shadow, Tool, Usage
from schemas.masks import PLACEHOLDER
from schemas.prompts import Generated, Prompt, Token
from services.router.admission import Admission
from services.router.domain.answers import Asked
from services.router.domain.catalogue import SPECIALIST, Catalogue
from services.router.domain.knowledge import NOTHING, Clearance, InputVerdict, Knowledge, Mask, OutputVerdict
from services.router.domain.limits import Ledger
from services.router.domain.request import Request
from services.router.domain.tasks import TaskClassifier
from services.router.experience import Experience
from services.router.handlers import Patience, Router
from services.router.journal import Call, Completion, Piece
from services.runtime.clock import Clock
from services.runtime.embeddings import Space
from services.runtime.errors import Fatal, Retryable

KEY = "a-key"
ID = "0199e000-0000-7000-8000-00000000000{}"
DENIED = "the secret sauce"

_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.\w+)+")


class ScriptedClock:
    """Time that moves only when somebody says so."""

    def __init__(self) -> None:
        self.seconds = 100.0
        self._ids = 0

    def advance(self, seconds: float) -> None:
        self.seconds += seconds

    def clock(self) -> Clock:
        return Clock(now=self.now, monotonic=lambda: self.seconds, new_id=self.new_id, chance=lambda: 0.5)

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def new_id(self) -> str:
        self._ids += 1
        return f"0199e000-0000-7000-8000-{self._ids:012}"


@dataclass
class FakeGovernance:
    """Masks e-mail addresses or does what `action` says, refuses `DENIED`, clears `cleared` up to its level.

    It takes `seconds` of scripted time.
    """

    time: ScriptedClock
    log: list[str]
    seconds: float = 0.0
    output_seconds: float = 0.0
    policy_us: int = 0
    silent: bool = False
    silent_times: int = 0
    action: str = "mask"
    waits_for: asyncio.Event | None = None
    silent_after_outputs: int | None = None
    sensitivity: Sensitivity = Sensitivity.INTERNAL
    cleared: dict[str, Sensitivity] = field(
        default_factory=lambda: {SPECIALIST: Sensitivity.RESTRICTED, "small": Sensitivity.CONFIDENTIAL}
    )
    inputs: list[list[str]] = field(default_factory=list)
    instructions: list[list[str]] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)

    async def check_input(
        self, application: str, task: str, texts: Sequence[str], instructions: Sequence[int], timeout_seconds: float
    ) -> InputVerdict:
        self.log.append("check input")
        self.time.advance(self.seconds)
        if self.waits_for is not None:
            await self.waits_for.wait()
        if self.silent or self.silent_times > 0:
            self.silent_times -= 1
            raise Retryable("governance is away")
        self.inputs.append(list(texts))
        self.instructions.append([texts[i] for i in instructions])
        findings = [f for i, text in enumerate(texts) for f in _findings(text, "input", i, self.action)]
        masked, masks = _masked(texts) if self.action == "mask" else (tuple(texts), ())
        levels = list(Sensitivity)[self.sensitivity.level :]
        return InputVerdict(
            verdict=_verdict(findings),
            texts=masked,
            sensitivity=self.sensitivity,
            clearances={
                level: Clearance(
                    frozenset(name for name, top in self.cleared.items() if level.level <= top.level),
                    ("same-region",),
                    {"big": ("no-big",)},
                )
                for level in levels
            },
            bundle_version="b1",
            findings=tuple(findings),
            policy_us=self.policy_us,
            masks=masks,
        )

    async def check_output(
        self, application: str, task: str, text: str, asked: Asked, timeout_seconds: float
    ) -> OutputVerdict:
        self.log.append("check output")
        self.time.advance(self.output_seconds)
        if self.silent_after_outputs is not None and len(self.outputs) >= self.silent_after_outputs:
            raise Retryable("governance is away")
        self.outputs.append(text)
        self.asked.append(asked)
        findings = _findings(text, "output", 0, self.action)
        verdict = _verdict(findings)
        (masked,), masks = _masked([text]) if self.action == "mask" else ((text,), ())
        return OutputVerdict(verdict, "" if verdict == "refuse" else masked, "b1", tuple(findings), masks)


def _verdict(findings: Sequence[Finding]) -> str:
    if any(finding.action == "refuse" for finding in findings):
        return "refuse"
    return "mask" if any(finding.action == "mask" for finding in findings) else "pass"


def _findings(text: str, direction: str, index: int, action: str) -> list[Finding]:
    found = [("email", action, match) for match in _EMAIL.finditer(text)]
    found += [("denied", "refuse", match) for match in re.finditer(DENIED, text, re.IGNORECASE)]
    return [
        Finding(direction=direction, kind=kind, action=action, text_index=index, start=match.start(), end=match.end())
        for kind, action, match in found
    ]


def _masked(texts: Sequence[str]) -> tuple[tuple[str, ...], tuple[Mask, ...]]:
    first = max((int(number) for text in texts for _, number in PLACEHOLDER.findall(text)), default=0) + 1
    masks: dict[str, Mask] = {}

    def name(match: re.Match[str]) -> str:
        value = match[0].lower()
        return masks.setdefault(value, Mask(f"<EMAIL_{first + len(masks)}>", value, match[0])).placeholder

    return tuple(_EMAIL.sub(name, text) for text in texts), tuple(masks.values())


@dataclass
class FakeContext:
    """Knows `knowledge`, or does not answer."""

    time: ScriptedClock
    log: list[str]
    knowledge: Knowledge = NOTHING
    silent: bool = False
    hangs: bool = False
    was_cancelled: bool = False
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    queries: list[str] = field(default_factory=list)

    async def stitch(
        self,
        tenant: str,
        task: str,
        query: str,
        conversation_id: str,
        budget_tokens: int,
        max_sensitivity: Sensitivity,
        timeout_seconds: float,
    ) -> Knowledge:
        self.log.append("stitch")
        self.queries.append(query)
        self.asked.set()
        if self.silent:
            raise Retryable("context is away")
        if self.hangs:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.was_cancelled = True
                raise
        return self.knowledge


@dataclass
class FakeModels:
    """Answers with `pieces`, or what `by_seed` has for the seed; each takes `seconds_a_piece` of scripted time.

    `failing` models raise what they are given, each time that they are asked: at once, or after their pieces if that is
    `fails_late`. `sum_logprobs` are of some models' answers, `answers` those answers.
    """

    time: ScriptedClock
    log: list[str]
    pieces: Sequence[str] = ("Hello", " there")
    by_seed: Mapping[int | None, Sequence[str]] = field(default_factory=dict)
    seconds_a_piece: float = 0.0
    fails_with: Exception | None = None
    hangs_after: int | None = None
    hanging_model: str = ""
    failing: dict[str, list[Exception]] = field(default_factory=dict)
    fails_late: bool = False
    answers: dict[str, str] = field(default_factory=dict)
    sum_logprobs: dict[str, float] = field(default_factory=dict)
    prompts: list[Prompt] = field(default_factory=list)
    timeouts: list[float] = field(default_factory=list)
    was_stopped: bool = False
    hanging: asyncio.Event = field(default_factory=asyncio.Event)
    goes_on: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    async def generate(self, prompt: Prompt, timeout_seconds: float) -> AsyncGenerator[str | Generated, None]:
        self.log.append("generate")
        self.prompts.append(prompt)
        self.timeouts.append(timeout_seconds)
        ended = False
        failures = self.failing.get(prompt.model)
        if failures and not self.fails_late:
            raise failures.pop(0)
        try:
            pieces = [self.answers[prompt.model]] if prompt.model in self.answers else self.pieces
            pieces = self.by_seed.get(prompt.sampling.get("seed"), pieces)
            for i, piece in enumerate(pieces):
                if i == self.hangs_after and self.hanging_model in ("", prompt.model):
                    self.hanging.set()
                    await self.goes_on.wait()
                self.time.advance(self.seconds_a_piece)
                yield piece
            if self.fails_with is not None:
                raise self.fails_with
            if failures:
                raise failures.pop(0)
            ended = True
            yield Generated(
                model_version=prompt.version or "1",
                finish_reason="stop",
                prompt_tokens=11,
                completion_tokens=len(self.pieces),
                sum_logprob=self.sum_logprobs.get(prompt.model, -1.5),
                mean_logprob=-0.5,
                min_logprob=-1.0,
                tokens=tuple(Token(piece, -0.5) for piece in pieces) if prompt.sampling.get("logprobs") else (),
            )
        finally:
            self.was_stopped = not ended
            self.stopped.set()


@dataclass
class FakeRecorder:
    """Keeps what it is given, or does not acknowledge it."""

    log: list[str]
    silent: bool = False
    silent_after: int | None = None
    interactions: list[Interaction] = field(default_factory=list)
    feedbacks: list[Feedback] = field(default_factory=list)
    shadows: list[Shadow] = field(default_factory=list)
    usages: list[Usage] = field(default_factory=list)

    async def interaction(self, interaction: Interaction) -> None:
        if self.silent or len(self.interactions) == self.silent_after:
            raise Retryable("not acknowledged")
        await asyncio.sleep(0)
        self.interactions.append(interaction)
        self.log.append(f"record {interaction.phase}")

    async def feedback(self, feedback: Feedback) -> None:
        if self.silent:
            raise Retryable("not acknowledged")
        self.feedbacks.append(feedback)

    async def shadow(self, shadow: Shadow) -> None:
        if self.silent:
            raise Retryable("not acknowledged")
        self.shadows.append(shadow)

    async def usage(self, usage: Usage) -> None:
        if self.silent:
            raise Retryable("not acknowledged")
        await asyncio.sleep(0)
        self.usages.append(usage)

    @property
    def last(self) -> Interaction:
        return self.interactions[-1]


def no_space() -> Space:
    raise Fatal("token-embeddings is missing")


def bundle() -> Bundle:
    return Bundle.model_validate(
        {
            "tenants": {"shop": {"region": "eu"}, "bank": {"region": "eu"}},
            "applications": {
                "web": {
                    "tenant": "shop",
                    "key_sha256": [hashlib.sha256(KEY.encode()).hexdigest()],
                    "tasks": ["chat", "calls"],
                    "purpose": "assistance",
                },
                "teller": {
                    "tenant": "bank",
                    "key_sha256": [hashlib.sha256(b"another").hexdigest()],
                    "tasks": ["advice"],
                    "purpose": "assistance",
                },
            },
            "models": {
                "big": {
                    "tier": "large",
                    "served_as": "big-llm",
                    "max_tokens": 512,
                    "region": "eu",
                },
                "small": {
                    "tier": "small",
                    "served_as": "small-llm",
                    "max_tokens": 256,
                    "region": "eu",
                },
            },
            "tasks": {
                "chat": {
                    "tenant": "shop",
                    "generic_prompt": "Be kind.",
                    "specialist_prompt": "Kind.",
                    "prompt_budget_tokens": 100,
                    "max_tokens": 64,
                    "deadline_ms": 10_000,
                },
                "calls": {
                    "tenant": "shop",
                    "generic_prompt": "Functions: {tools}",
                    "specialist_prompt": "Call.",
                    "answers": "function-call",
                },
                "advice": {"tenant": "bank", "generic_prompt": "Advise.", "specialist_prompt": "Advise."},
            },
            "guardrails": {"default": [{"detect": ["denied"], "action": "refuse", "texts": [DENIED]}]},
            "policies": {"models.cedar": "permit (principal, action, resource);"},
        }
    )


def deployment(task: str = "chat", tenant: str = "shop", state: str = "live", schema: str = "") -> Deployment:
    return Deployment(
        task_key=f"{tenant}/{task}",
        tenant=tenant,
        task=task,
        deployment_id="d1",
        state=state,
        candidate_id="c1",
        model=f"specialist-{tenant}-{task}",
        model_version="3",
        system_prompt="You are the specialist.",
        response_schema=schema,
        deployed_at=datetime(2026, 1, 1, tzinfo=UTC),
        reason="gate",
    )


LIGHTS = Tool(
    name="lights",
    description="Turns lights on or off",
    parameters='{"type":"object","properties":{"room":{"type":"string"}},"required":["room"]}',
)


def user(content: str) -> Message:
    return Message(role="user", content=content)


class Stack:
    """A router on fakes."""

    def __init__(self, *deployments: Deployment, space: Callable[[], Space] | None = None) -> None:
        self.log: list[str] = []
        self.time = ScriptedClock()
        self.governance = FakeGovernance(self.time, self.log)
        self.context = FakeContext(self.time, self.log)
        self.models = FakeModels(self.time, self.log)
        self.recorder = FakeRecorder(self.log)
        self.clock = self.time.clock()
        self.ledger = Ledger("this")
        self.experience = Experience(space or no_space)
        by_task = {(each.tenant, each.task): each for each in deployments}
        self.catalogue = Catalogue(bundle(), "b1", TaskClassifier(bundle(), no_space), by_task)
        self.router = Router(
            catalogue=lambda: self.catalogue,
            governance=self.governance,
            context=self.context,
            models=self.models,
            recorder=self.recorder,
            admission=Admission(self.ledger, self.recorder, self.clock, in_flight=100),
            experience=self.experience,
            clock=self.clock,
            patience=Patience(governance_seconds=2.0, context_seconds=0.5),
        )

    def call(self, key: str = KEY, deadline_seconds: float | None = None) -> Call:
        return Call(self.clock.new_id(), key, self.clock.monotonic(), self.clock.now(), deadline_seconds)


def ask(*contents: str, **more: object) -> Request:
    return Request(messages=tuple(user(content) for content in contents), **more)  # type: ignore[arg-type]


async def collect(stack: Stack, request: Request) -> tuple[list[str], Completion]:
    pieces = [piece async for piece in stack.router.stream(stack.call(), request)]
    assert isinstance(pieces[-1], Completion)
    return [piece.text for piece in pieces if isinstance(piece, Piece)], pieces[-1]
