"""Specialists going live and being taken back on the whole stack, with an application that says the right answers.

What the generic model says is right here: so a specialist that leaves it as it is is good, and one with random weights
is bad: as quick, without an error, and wrong.
"""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle
from threading import Event

import pytest
from openai import OpenAI

from gyre.api.serving.v1 import serving_pb2, serving_pb2_grpc
from gyre.demo.story import TENANT
from schemas.events import Candidate, GateAnswer, Sensitivity
from schemas.topics import Topic
from services.runtime.kafka import Producer
from services.runtime.settings import KafkaSettings
from tests.integration.serving.adapters import write_random_adapter
from tests.whole_stack import CALL_SECONDS, CAREFUL, SHADOW_REQUESTS, SMALL, TEXT, WholeStack, wait_for

pytestmark = pytest.mark.timeout(900)

THINGS = (
    "lamp",
    "desk",
    "river",
    "cloud",
    "violin",
    "bridge",
    "lemon",
    "castle",
    "candle",
    "forest",
    "mirror",
    "rocket",
)
VERBS = ("Describe", "Draw", "Sell me", "Explain")
QUESTIONS = [f"{verb} a {thing}." for verb in VERBS for thing in THINGS]
MINUTE = 300  # requests at five a second
SWAPS, LOADS = 10, 3
SPECIALIST = f"specialist-{TENANT}-{TEXT}"


@dataclass(frozen=True)
class Answer:
    """What was answered, and by which version of which model; generic ones have no candidate."""

    request_id: str
    text: str
    model: str
    version: str


class Application:
    """Asks for short answers, and knows the right ones once it has been told."""

    def __init__(self, client: OpenAI, task: str = TEXT) -> None:
        self._client = client
        self._task = task
        self.right: dict[str, str] = {}

    def ask(self, question: str) -> Answer:
        """Ask one question, as a user of its own."""
        completion = self._client.chat.completions.create(
            model="auto",
            messages=[{"role": "user", "content": question}],
            metadata={"task": self._task},
            max_tokens=8,
            temperature=0,
            user=question,
        )
        choice = completion.choices[0]
        version = choice.gyre["model_version"]  # type: ignore[attr-defined] # beyond OpenAI's
        return Answer(completion.id, choice.message.content or "", completion.model, version)

    def ask_and_correct(self, question: str) -> Answer:
        """Ask, and say what the right answer would have been."""
        answer = self.ask(question)
        body = {"request_id": answer.request_id, "correct_answer": self.right[question]}
        self._client.post("/feedback", body=body, cast_to=object)
        return answer


@pytest.fixture
def application(gyre: WholeStack) -> Iterator[Application]:
    with gyre.openai(retries=3) as client:
        made = Application(client)
        made.right = {question: made.ask(question).text for question in QUESTIONS}
        yield made


async def promote(gyre: WholeStack, candidate_id: str, strength: float, task: str = TEXT, state: str = "live") -> None:
    """Have a specialist begin whose gate, it says, found four of five right, and wait until it has."""
    folder = gyre.stack.settings.artifacts_dir / candidate_id / "adapter"
    write_random_adapter(folder, seed=1, strength=strength)
    candidate = Candidate(
        candidate_id=candidate_id,
        run_id="none",
        tenant=TENANT,
        task=task,
        created_at=datetime.now(UTC),
        verdict="promote",
        base_model="base",
        adapter_path=f"{candidate_id}/adapter",
        system_prompt=gyre.bundle.tasks[task].generic_prompt,
        dataset_id="none",
        candidate_answers=tuple(GateAnswer(right=n % 5 > 0) for n in range(40)),
        sensitivity=Sensitivity.INTERNAL,
        bundle_version=gyre.bundle.version,
    )
    kafka = KafkaSettings(bootstrap_servers=gyre.stack.settings.address("GYRE_EMBEDDED_KAFKA_PORT"))
    async with Producer(kafka) as producer:
        await producer.send(Topic.CANDIDATES, candidate)
    wait_for(lambda: wanted(gyre, task) == (candidate_id, state))


def live(gyre: WholeStack) -> str:
    """The candidate that answers all callers of the task; empty: none does."""
    candidate_id, state = wanted(gyre, TEXT)
    return candidate_id if state == "live" else ""


def wanted(gyre: WholeStack, task: str) -> tuple[str, str]:
    """The candidate that is wanted for a task, and its state."""
    with gyre.channel("serving") as channel:
        stub = serving_pb2_grpc.ServingStub(channel)
        status = stub.Status(serving_pb2.StatusRequest(), timeout=CALL_SECONDS)
    of_task = (each for each in status.deployments if each.task == task)
    return next(((each.candidate_id, each.state) for each in of_task), ("", ""))


async def test_a_bad_specialist_is_rolled_back_within_a_minute_and_the_good_one_before_it_is_not(
    gyre: WholeStack, application: Application
) -> None:
    for question in QUESTIONS:
        assert application.ask_and_correct(question).model == SMALL
    await promote(gyre, "as-good", strength=0)
    wait_for(lambda: application.ask(QUESTIONS[0]).model == SPECIALIST, 10)
    answered = [application.ask_and_correct(question) for question in QUESTIONS * 2]
    assert {answer.model for answer in answered} == {SPECIALIST}
    assert live(gyre) == "as-good"

    await promote(gyre, "bad", strength=100)
    questions, asked = cycle(QUESTIONS), 0
    while live(gyre) == "bad":
        assert asked < MINUTE
        application.ask_and_correct(next(questions))
        asked += 1
    assert asked > 0
    assert live(gyre) == "as-good"

    query = (
        "SELECT reason FROM gyre.deployments WHERE task = {task:String} AND candidate_id = 'as-good' AND reason != ''"
    )
    (row,) = wait_for(lambda: gyre.rows(query, task=TEXT), 10)
    assert row["reason"].startswith("rolled back by itself: answers ")
    unhealthy = "SELECT count() AS failed FROM gyre.interactions WHERE candidate_id = 'bad' AND finish_reason = 'error'"
    assert gyre.rows(unhealthy) == [{"failed": 0}]


async def test_ten_swaps_under_load_fail_no_request(gyre: WholeStack) -> None:
    versions: list[str] = []
    ended = Event()

    def load() -> None:
        with gyre.openai() as client:  # which tries nothing again
            application = Application(client)
            for question in cycle(QUESTIONS):
                if ended.is_set():
                    return
                versions.append(application.ask(question).version)

    with ThreadPoolExecutor(LOADS) as pool:
        loads = [pool.submit(load) for _ in range(LOADS)]
        try:
            for number in range(SWAPS):
                answered_by = len(set(versions))
                await promote(gyre, f"swap-{number}", strength=0)
                while len(set(versions)) == answered_by:
                    await asyncio.sleep(0.1)
        finally:
            ended.set()
        for each in loads:
            each.result()  # raises what a request failed with
    assert len(set(versions)) >= SWAPS


async def test_in_the_shadow_a_good_specialist_earns_its_callers_and_a_bad_one_never_gets_any(
    gyre: WholeStack,
) -> None:
    with gyre.openai(retries=3) as client:
        application = Application(client, CAREFUL)
        application.right = {question: application.ask(question).text for question in QUESTIONS}
        await promote(gyre, "as-good-in-the-shadow", strength=0, task=CAREFUL, state="shadow")
        questions, asked_of = (
            cycle(QUESTIONS),
            "SELECT count() AS answers FROM gyre.shadows WHERE candidate_id = {id:String}",
        )
        while gyre.rows(asked_of, id="as-good-in-the-shadow")[0]["answers"] < SHADOW_REQUESTS:
            assert application.ask_and_correct(next(questions)).model == SMALL
        wait_for(lambda: wanted(gyre, CAREFUL) == ("as-good-in-the-shadow", "live"))
        wait_for(lambda: application.ask(QUESTIONS[0]).model == f"specialist-{TENANT}-{CAREFUL}", 10)

        await promote(gyre, "bad-in-the-shadow", strength=100, task=CAREFUL, state="shadow")
        asked = 0
        while wanted(gyre, CAREFUL)[0] == "bad-in-the-shadow":
            assert asked < MINUTE
            application.ask_and_correct(next(questions))
            asked += 1
    assert wanted(gyre, CAREFUL) == ("as-good-in-the-shadow", "live")
    assert gyre.rows(asked_of, id="bad-in-the-shadow")[0]["answers"] > 0
    heard = "SELECT count() AS answers FROM gyre.interactions WHERE candidate_id = 'bad-in-the-shadow'"
    assert gyre.rows(heard) == [{"answers": 0}]
