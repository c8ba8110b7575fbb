"""Applications that ask without pause while parts of Gyre fail, and what must hold of them afterwards."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx
from openai import APIError, OpenAI

from tests.whole_stack import WholeStack, wait_for

IN_FLIGHT = 2
ANSWERED_BEFORE_AND_AFTER = 4
RECOVERY_SECONDS = 120.0
PAUSE_SECONDS = 0.1
# The same asked again, by another test too, would be asked of experts once.
NUMBERS = itertools.count()
# The bundle has it masked in every answer: whoever receives it has received what nobody checked.
UNCHECKED = "the"
MASK = "<DENIED_"


@dataclass(frozen=True)
class Answer:
    """A request that was answered to its end, and when it was sent and had its answer (`time.monotonic`)."""

    request_id: str
    sent: float
    came: float


class Traffic:
    """Two applications, each with one connection, that take whole answers and streams in turn.

    They never try the same again: what is not answered counts as refused.
    """

    def __init__(self, gyre: WholeStack) -> None:
        self._gyre = gyre
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(IN_FLIGHT)
        self._asking: list[Future[None]] = []
        self.answers: list[Answer] = []
        self.refusals: list[str] = []
        self.received: list[str] = []

    def __enter__(self) -> Self:
        self._asking = [self._pool.submit(self._ask) for _ in range(IN_FLIGHT)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._pool.shutdown()
        if error is None:
            for asking in self._asking:
                asking.result()

    def go_on(self) -> None:
        """Wait until some more requests are answered."""
        goal = len(self.answers) + ANSWERED_BEFORE_AND_AFTER
        self._wait_for(lambda: len(self.answers) >= goal)

    def meet(self) -> None:
        """Wait until requests that are sent from now on have been answered or refused."""
        goal = len(self.answers) + len(self.refusals) + 2 * IN_FLIGHT
        self._wait_for(lambda: len(self.answers) + len(self.refusals) >= goal)

    def be_refused(self) -> None:
        """Wait until some more requests have been refused."""
        goal = len(self.refusals) + IN_FLIGHT
        self._wait_for(lambda: len(self.refusals) >= goal)

    def first_answer_since(self, moment: float) -> Answer:
        """Wait for the first answer to a request that was sent after a moment."""

        def found() -> Answer | None:
            return next((answer for answer in list(self.answers) if answer.sent >= moment), None)

        self._wait_for(lambda: found() is not None)
        answer = found()
        assert answer is not None
        return answer

    def _wait_for(self, look: Callable[[], bool]) -> None:
        wait_for(lambda: look() or any(asking.done() for asking in self._asking), RECOVERY_SECONDS)
        for asking in self._asking:
            if asking.done():
                asking.result()

    def _ask(self) -> None:
        with self._gyre.openai() as client:
            while not self._stopped.is_set():
                number, sent = next(NUMBERS), time.monotonic()
                try:
                    request_id = self._answered(client, f"Tell me all about the number {number}.", number % 2 == 1)
                except (APIError, httpx.TransportError) as error:
                    self.refusals.append(f"{type(error).__name__}: {error}")
                    self._stopped.wait(PAUSE_SECONDS)
                else:
                    self.answers.append(Answer(request_id, sent, time.monotonic()))

    def _answered(self, client: OpenAI, question: str, is_streamed: bool) -> str:
        asked = {
            "model": "auto",
            "messages": [{"role": "user", "content": question}],
            "max_tokens": 16,
            "temperature": 0,
        }
        if not is_streamed:
            whole = client.chat.completions.create(**asked)
            self.received.append(whole.choices[0].message.content or "")
            return whole.id
        pieces: list[str] = []
        try:
            with client.chat.completions.create(**asked, stream=True) as stream:
                for chunk in stream:
                    pieces.append(chunk.choices[0].delta.content or "")
                    request_id, is_whole = chunk.id, chunk.choices[0].finish_reason is not None
        finally:
            self.received.append("".join(pieces))
        if not pieces or not is_whole:
            raise httpx.RemoteProtocolError("the stream ended before the answer did")
        return request_id
