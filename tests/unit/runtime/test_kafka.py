"""What becomes of a transaction whose body does not come to its end."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaError

from services.runtime.kafka import transformer
from services.runtime.kafka.transformer import transaction


class FakeProducer:
    """Remembers what became of its transaction; its abort is answered, never answered, or an error."""

    def __init__(self, abort: str = "answered", is_fatal: bool = False) -> None:
        self.ended = ""
        self._abort = abort
        self._txn_manager = SimpleNamespace(is_fatal_error=lambda: is_fatal)

    async def begin_transaction(self) -> None:
        assert not self.ended

    async def commit_transaction(self) -> None:
        self.ended = "committed"

    async def abort_transaction(self) -> None:
        self.ended = "aborted"
        if self._abort == "never answered":
            await asyncio.Event().wait()
        if self._abort == "an error":
            raise KafkaError


async def ended(producer: FakeProducer, error: BaseException | None = None) -> str:
    made: Any = producer
    async with transaction(made):
        if error is not None:
            raise error
    return producer.ended


async def test_what_is_done_is_committed() -> None:
    assert await ended(FakeProducer()) == "committed"


@pytest.mark.parametrize("error", [ValueError(), KafkaError(), asyncio.CancelledError()])
async def test_what_fails_is_aborted_and_its_error_goes_on(error: BaseException) -> None:
    producer = FakeProducer()
    with pytest.raises(type(error)):
        await ended(producer, error)
    assert producer.ended == "aborted"


@pytest.mark.parametrize("abort", ["never answered", "an error"])
async def test_who_is_cancelled_is_so_whatever_becomes_of_the_abort(
    abort: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transformer, "ABORT_SECONDS", 0.01)
    producer = FakeProducer(abort)
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await ended(producer, asyncio.CancelledError())
    assert producer.ended == "aborted"


async def test_a_producer_that_is_beyond_help_is_asked_for_no_abort() -> None:
    producer = FakeProducer(is_fatal=True)
    with pytest.raises(KafkaError):
        await ended(producer, KafkaError())
    assert not producer.ended
