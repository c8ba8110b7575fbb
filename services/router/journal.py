"""What is known of one request so far: it becomes the record of it, and the answer to the caller."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from schemas.bundle import Guardrail, Task
from schemas.events import Attempt, Cut, Finding, Interaction, Message, Release, Sensitivity, Tool, ToolCall
from schemas.prompts import Generated, Token
from services.router.domain.answers import Asked, asked, tokens_of
from services.router.domain.catalogue import Caller, Candidate, Catalogue
from services.router.domain.knowledge import InputVerdict
from services.router.domain.masking import Vault, without_texts
from services.router.domain.request import Request
from services.router.domain.routing import Decision
from services.router.domain.timeline import Timeline
from services.runtime.errors import DeadlineExceeded


@dataclass(frozen=True)
class Call:
    """How a request came in.

    Attributes:
        request_id: UUIDv7, given at the edge so that every answer can name it, errors too.
        key: What the caller showed as its application key.
        arrived: Of the monotonic clock, seconds.
        received_at: The same, of the day.
        deadline_seconds: Time that the caller gives, from `arrived`; None leaves it to the task.
    """

    request_id: str
    key: str
    arrived: float
    received_at: datetime
    deadline_seconds: float | None = None


@dataclass(frozen=True)
class Completion:
    """An answer as it is released; its tokens if they were asked for and say what left."""

    request_id: str
    task: str
    message: Message
    finish_reason: str
    model: str
    model_version: str
    tier: str
    prompt_tokens: int
    completion_tokens: int
    bundle_version: str
    sensitivity: Sensitivity
    document_ids: tuple[str, ...]
    context_available: bool
    tokens: tuple[Token, ...] | None = None


@dataclass(frozen=True)
class Piece:
    """A piece of a streamed answer as it is released, and the model that writes it."""

    text: str
    model: str


@dataclass(frozen=True)
class Part:
    """A part of an answer as it may leave, and the verdict, of which bundle, that lets it. Empty text: nothing may."""

    text: str
    verdict: str
    bundle_version: str


NO_PART = Part("", "", "")


@dataclass
class Journal:
    """What is known of one request so far.

    `messages` and `tools` are what the application sent until governance has answered, then what a model may see.
    `answer` and `tool_calls` are masked, as the record has them; the caller gets its own values back. `asked_again`
    is the request whose question this one repeats. `model` is who answers or is to: the chosen one, or a fallback.
    """

    call: Call
    catalogue: Catalogue
    caller: Caller
    task_name: str
    task_by: str
    task: Task
    asked_for: str
    request: Request
    messages: tuple[Message, ...]
    language: str
    cuts: tuple[Cut, ...]
    streamed: bool
    deadline: float
    timeline: Timeline
    tools: tuple[Tool, ...] = ()
    verdict: InputVerdict | None = None
    vault: Vault = field(default_factory=Vault)
    decision: Decision | None = None
    model: Candidate | None = None
    attempts: list[Attempt] = field(default_factory=list)
    asked: Asked = field(default_factory=Asked)
    context_available: bool = False
    asked_again: str = ""
    first_token_us: int = 0
    generated: Generated | None = None
    output_verdict: str = ""
    findings: list[Finding] = field(default_factory=list)
    releases: list[Release] = field(default_factory=list)
    answer: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str = ""
    error: str = ""
    is_opened: bool = False
    is_finished: bool = False

    def remaining_seconds(self, now: float) -> float:
        """Return the seconds left until the request's deadline, by the monotonic clock.

        Raises:
            DeadlineExceeded: None are.
        """
        remaining = self.deadline - now
        if remaining <= 0:
            raise DeadlineExceeded("the deadline of the request has passed")
        return remaining

    def take(self, model: Candidate) -> None:
        """Let a model be the one that answers."""
        self.model, self.generated = model, None
        self.asked = asked(model, self.task, self.messages, self.tools, self.request.sampling, self.guardrails)

    @property
    def guardrails(self) -> list[Guardrail]:
        """What is looked for in the answer."""
        return self.catalogue.bundle.guardrails_of(self.caller.tenant, "output")

    @property
    def answers_with_calls(self) -> bool:
        """Whether the answer may become a tool call."""
        return self.task.answers == "function-call" and bool(self.tools)

    @property
    def leaves_whole(self) -> bool:
        """Whether the answer is released whole: before, nobody can tell a tool call, its form, or how sure it is."""
        return self.answers_with_calls or bool(self.asked.schema) or self.task.cascade is not None

    def take_findings(self, findings: Sequence[Finding], start: int) -> None:
        """Add findings in a part of the answer that begins at character `start`."""
        self.findings += [
            msgspec.structs.replace(finding, start=finding.start + start, end=finding.end + start)
            for finding in findings
        ]

    def release(self, part: Part) -> None:
        """Add to the answer what leaves of it; neighbours that left under equal verdicts are one release."""
        start, end = len(self.answer), len(self.answer) + len(part.text)
        if start == end:
            return
        self.answer += part.text
        release = Release(start=start, end=end, verdict=part.verdict, bundle_version=part.bundle_version)
        last = self.releases[-1] if self.releases else None
        if last and (last.verdict, last.bundle_version) == (part.verdict, part.bundle_version):
            self.releases[-1] = msgspec.structs.replace(last, end=end)
        else:
            self.releases.append(release)

    def restored(self, text: str) -> str:
        """Return a part of the answer as the caller gets it; what begins like JSON is taken for that."""
        return self.vault.restored(text, in_json=self.answer.lstrip().startswith(("{", "[")))

    def piece(self, text: str) -> Piece:
        """Return a part of the answer as it leaves in a stream."""
        assert self.model is not None
        return Piece(self.restored(text), self.model.name)

    def interaction(self, phase: str, now: datetime, total_us: int) -> Interaction:
        """Return the record, but for its stages, which end with the making of it."""
        chosen = self.model
        generated = self.generated
        is_masked = self.verdict is not None
        return Interaction(
            request_id=self.call.request_id,
            phase=phase,
            tenant=self.caller.tenant,
            application=self.caller.application,
            task=self.task_name,
            task_by=self.task_by,
            user=self.request.user,
            conversation_id=self.request.conversation_id,
            received_at=self.call.received_at,
            finished_at=now,
            streamed=self.streamed,
            temperature=self.request.sampling.temperature,
            # What governance has not seen stays out of the record: nobody has masked it.
            messages=self.messages if is_masked else without_texts(self.messages),
            tools=self.tools if is_masked else (),
            language=self.language,
            truncated_tokens=sum(cut.tokens for cut in self.cuts),
            cuts=self.cuts,
            answer=self.answer,
            tool_calls=self.tool_calls,
            finish_reason=self.finish_reason,
            error=self.error,
            model=chosen.name if chosen else "",
            model_version=generated.model_version if generated else (chosen.version if chosen else ""),
            tier=chosen.tier if chosen else "",
            candidate_id=chosen.deployment.candidate_id if chosen and chosen.deployment else "",
            canary=bool(chosen and chosen.deployment and chosen.deployment.share < 1),
            candidates=self.decision.candidates if self.decision else (),
            attempts=tuple(self.attempts),
            estimates=self.decision.estimates if self.decision else (),
            propensity=self.decision.propensity if self.decision else 1.0,
            bundle_version=self.bundle_version,
            sensitivity=self.sensitivity,
            input_verdict=self.verdict.verdict if self.verdict else "",
            output_verdict=self.output_verdict,
            findings=(*(self.verdict.findings if self.verdict else ()), *self.findings),
            releases=tuple(self.releases),
            policies=self.decision.policies if self.decision else (),
            citations=self.decision.citations if self.decision else (),
            memory_turns=len(self.decision.knowledge.turns) if self.decision else 0,
            context_available=self.context_available,
            prompt_tokens=generated.prompt_tokens if generated else 0,
            completion_tokens=generated.completion_tokens if generated else 0,
            sum_logprob=generated.sum_logprob if generated else None,
            mean_logprob=generated.mean_logprob if generated else None,
            min_logprob=generated.min_logprob if generated else None,
            name_logprob=generated.name_logprob if generated else None,
            first_token_us=self.first_token_us,
            total_us=total_us,
        )

    def completion(self) -> Completion:
        """Return the answer as it is released."""
        assert self.decision is not None
        assert self.model is not None
        assert self.generated is not None
        tool_calls = tuple(
            msgspec.structs.replace(call, arguments=self.vault.restored(call.arguments, in_json=True))
            for call in self.tool_calls
        )
        return Completion(
            request_id=self.call.request_id,
            task=self.task_name,
            message=Message(
                role="assistant", content="" if self.tool_calls else self.restored(self.answer), tool_calls=tool_calls
            ),
            finish_reason=self.finish_reason,
            model=self.model.name,
            model_version=self.generated.model_version,
            tier=self.model.tier,
            prompt_tokens=self.generated.prompt_tokens,
            completion_tokens=self.generated.completion_tokens,
            bundle_version=self.bundle_version,
            sensitivity=self.sensitivity,
            document_ids=tuple(passage.document_id for passage in self.decision.knowledge.passages),
            context_available=self.context_available,
            tokens=self._tokens(),
        )

    def _tokens(self) -> tuple[Token, ...] | None:
        """Return the answer's tokens: none of one in which something was masked or put back, or that is a call."""
        assert self.generated is not None
        if not self.request.sampling.logprobs or self.tool_calls or self.restored(self.answer) != self.answer:
            return None
        return tokens_of(self.answer, self.generated.tokens)

    @property
    def who(self) -> str:
        """Who asks, as far as it is said: a user or a conversation; empty where a model is asked for by its name."""
        request = self.request
        who = request.user or request.conversation_id or self.call.request_id
        return "" if self.asked_for else f"{self.caller.application}/{who}"

    @property
    def bundle_version(self) -> str:
        """The bundle that decided: governance's, or before it answered, the router's."""
        return self.verdict.bundle_version if self.verdict else self.catalogue.version

    @property
    def sensitivity(self) -> Sensitivity:
        """The highest of all that the model saw; the highest there is while nobody has judged it."""
        if self.decision:
            return self.decision.sensitivity
        return self.verdict.sensitivity if self.verdict else Sensitivity.RESTRICTED
