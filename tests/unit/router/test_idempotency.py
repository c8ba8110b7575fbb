import asyncio

import pytest

from services.router.domain.errors import KeyReused
from services.router.idempotency import Bounds, Idempotency, Kept
from services.runtime.errors import Retryable

SCOPE = ("web", "chat", "k")


class Answers:
    """Answers with a number that grows, once `released`."""

    def __init__(self) -> None:
        self.begun = 0
        self.released = asyncio.Event()
        self.released.set()
        self.error: Exception | None = None

    async def __call__(self) -> Kept:
        self.begun += 1
        number = self.begun
        await self.released.wait()
        if self.error is not None:
            raise self.error
        return Kept(f"id {number}", b"body of ten" * 10)


def idempotency(seconds: float = 600.0, entries: int = 100, size: int = 2**20) -> Idempotency:
    return Idempotency(Bounds(seconds, entries, size))


async def has_begun(answers: Answers, times: int = 1) -> None:
    async with asyncio.timeout(5):
        while answers.begun < times:
            await asyncio.sleep(0)


async def test_the_same_key_gets_the_same_answer_and_nothing_is_done_again() -> None:
    kept, answers = idempotency(), Answers()
    first = await kept.once(SCOPE, b"Hi", answers)
    assert await kept.once(SCOPE, b"Hi", answers) == first
    assert answers.begun == 1


@pytest.mark.parametrize("other", [("bank", "chat", "k"), ("web", "feedback", "k"), ("web", "chat", "another")])
async def test_a_key_is_the_applications_own_and_of_one_operation(other: tuple[str, str, str]) -> None:
    kept, answers = idempotency(), Answers()
    await kept.once(SCOPE, b"Hi", answers)
    await kept.once(other, b"Ho", answers)
    assert answers.begun == 2


async def test_a_second_one_waits_for_the_first() -> None:
    kept, answers = idempotency(), Answers()
    answers.released.clear()
    calls = [asyncio.create_task(kept.once(SCOPE, b"Hi", answers)) for _ in range(3)]
    await has_begun(answers)
    answers.released.set()
    assert {answer.request_id for answer in await asyncio.gather(*calls)} == {"id 1"}
    assert answers.begun == 1


@pytest.mark.parametrize("ended", [True, False])
async def test_a_key_with_another_body_is_refused(ended: bool) -> None:
    kept, answers = idempotency(), Answers()
    if not ended:
        answers.released.clear()
    first = asyncio.create_task(kept.once(SCOPE, b"Hi", answers))
    await has_begun(answers)
    if ended:
        await first
    with pytest.raises(KeyReused, match="idempotency-key"):
        await kept.once(SCOPE, b"Ho", answers)
    answers.released.set()
    await first


async def test_an_error_is_not_kept() -> None:
    kept, answers = idempotency(), Answers()
    answers.error = Retryable("away")
    with pytest.raises(Retryable):
        await kept.once(SCOPE, b"Hi", answers)
    answers.error = None
    assert (await kept.once(SCOPE, b"Hi", answers)).request_id == "id 2"


async def test_who_waited_for_one_that_failed_or_went_away_is_answered_anew() -> None:
    kept, answers = idempotency(), Answers()
    answers.released.clear()
    first = asyncio.create_task(kept.once(SCOPE, b"Hi", answers))
    await has_begun(answers)
    others = [asyncio.create_task(kept.once(SCOPE, b"Hi", answers)) for _ in range(2)]
    await asyncio.sleep(0)
    first.cancel()
    await has_begun(answers, times=2)
    answers.released.set()
    assert [answer.request_id for answer in await asyncio.gather(*others)] == ["id 2", "id 2"]
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_one_that_waits_and_goes_away_takes_nothing_from_the_first() -> None:
    kept, answers = idempotency(), Answers()
    answers.released.clear()
    first = asyncio.create_task(kept.once(SCOPE, b"Hi", answers))
    await has_begun(answers)
    second = asyncio.create_task(kept.once(SCOPE, b"Hi", answers))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    answers.released.set()
    assert (await first).request_id == "id 1"


async def test_an_answer_goes_when_its_time_is_over() -> None:
    kept, answers = idempotency(seconds=0.01), Answers()
    await kept.once(SCOPE, b"Hi", answers)
    async with asyncio.timeout(5):
        while (await kept.once(SCOPE, b"Hi", answers)).request_id == "id 1":
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(("entries", "size"), [(2, 2**20), (100, 220), (100, 250)])
async def test_the_oldest_answers_make_room(entries: int, size: int) -> None:
    kept, answers = idempotency(entries=entries, size=size), Answers()
    for key in "abc":
        await kept.once(("web", "chat", key), b"Hi", answers)
    for key, number in (("c", 3), ("b", 2), ("a", 4)):
        assert (await kept.once(("web", "chat", key), b"Hi", answers)).request_id == f"id {number}"


async def test_an_answer_larger_than_all_that_may_be_kept_is_not() -> None:
    kept, answers = idempotency(size=10), Answers()
    await kept.once(SCOPE, b"Hi", answers)
    assert (await kept.once(SCOPE, b"Hi", answers)).request_id == "id 2"


def test_an_answer_shows_nothing_of_itself_where_it_is_printed() -> None:
    assert "secret" not in repr(Kept("id 1", b"secret"))
