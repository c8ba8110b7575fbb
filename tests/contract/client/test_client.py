"""The client of applications against the router's own gRPC server; what stands behind its ports is scripted."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from embedded.ports import free_ports
from gyre.api.router.v1 import router_pb2_grpc
from gyre.client import (
    AsyncClient,
    Client,
    DeadlineExceededError,
    GyreError,
    IdempotencyKeyReusedError,
    InvalidRequestError,
    LimitReachedError,
    Message,
    NotFoundError,
    RefusedError,
    Retries,
    Tls,
    Tool,
    UnauthenticatedError,
    UnavailableError,
    UnexpectedError,
)
from schemas.bundle import Limit
from services.router.idempotency import Bounds, Idempotency
from services.router.servicer import RouterServicer
from services.runtime.errors import Retryable
from tests.router_on_fakes import RouterOnFakes, router_on_fakes
from tests.unit.router.fakes import DENIED, KEY, Stack

ONCE = Retries(attempts=1)
LIGHTS = Tool("lights", "Turns lights on", {"type": "object", "properties": {"room": {"type": "string"}}})


@pytest.fixture
async def served() -> AsyncIterator[RouterOnFakes]:
    async with router_on_fakes() as router:
        yield router


class Either:
    """Both clients behind one face: what the blocking one does is waited for in a thread."""

    def __init__(self, client: Client | AsyncClient) -> None:
        self.client = client

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: Any, **named: Any) -> Any:
            return await waited(getattr(self.client, name), *arguments, **named)

        return call

    async def read(self, text: str, **wanted: Any) -> tuple[list[str], Any]:
        """Read a stream to its end; returns its pieces and the whole."""
        if isinstance(self.client, AsyncClient):
            async with self.client.stream(text, **wanted) as stream:
                return [piece async for piece in stream], stream.answer
        return await asyncio.to_thread(self._read, self.client, text, wanted)

    @staticmethod
    def _read(client: Client, text: str, wanted: Any) -> tuple[list[str], Any]:
        with client.stream(text, **wanted) as stream:
            return list(stream), stream.answer


async def waited(method: Any, *arguments: Any, **named: Any) -> Any:
    if asyncio.iscoroutinefunction(method):
        return await method(*arguments, **named)
    return await asyncio.to_thread(method, *arguments, **named)


@pytest.fixture(params=[Client, AsyncClient])
async def client(served: RouterOnFakes, request: pytest.FixtureRequest) -> AsyncIterator[Either]:
    opened = request.param(served.target, KEY, timeout_seconds=10, retries=Retries(first_seconds=0.01))
    yield Either(opened)
    await waited(opened.close)


async def test_an_answer_and_what_was_decided(served: RouterOnFakes, client: Either) -> None:
    answer = await client.complete("Hi", user="ann", conversation_id="c1", seed=3)
    assert answer.text == "Hello there"
    assert (answer.model, answer.tier, answer.finish_reason, answer.sensitivity) == (
        "small",
        "small",
        "stop",
        "internal",
    )
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (11, 2)
    record = served.stack.recorder.last
    assert (record.request_id, record.user, record.conversation_id) == (answer.request_id, "ann", "c1")
    assert served.stack.models.prompts[0].sampling["seed"] == 3


async def test_feedback_in_one_line(served: RouterOnFakes, client: Either) -> None:
    answer = await client.complete("Hi")
    first = await waited(answer.feedback, rating=1, comment="good")
    second = await client.feedback(answer.request_id, correct_answer="Hello")
    assert [given.feedback_id for given in served.stack.recorder.feedbacks] == [first, second]
    assert [(given.kind, given.request_id) for given in served.stack.recorder.feedbacks] == [
        ("rating", answer.request_id),
        ("correct_answer", answer.request_id),
    ]


async def test_a_stream_gives_its_text_and_then_the_whole(served: RouterOnFakes, client: Either) -> None:
    served.stack.models.pieces = ["word " * 30] * 4
    pieces, answer = await client.read("Hi")
    assert len(pieces) > 1
    assert "".join(pieces) == answer.text == "word " * 120
    await waited(answer.feedback, rating=-1)
    assert served.stack.recorder.feedbacks[0].request_id == answer.request_id


async def test_tools_and_a_turn_that_is_sent_back(served: RouterOnFakes, client: Either) -> None:
    served.stack.models.pieces = ['{"name": "lights", "arguments": {"room": "hall"}}']
    answer = await client.complete("Light!", task="calls", tools=[LIGHTS])
    (call,) = answer.tool_calls
    assert (call.name, call.arguments) == ("lights", {"room": "hall"})
    turns = [Message("user", "Light!"), answer.message, Message("tool", "on", tool_call_id=call.id)]
    await client.complete(turns, task="calls")
    assert [message["role"] for message in served.stack.models.prompts[1].messages][-3:] == [
        "user",
        "assistant",
        "tool",
    ]


async def test_an_answer_in_a_schema_is_its_value(served: RouterOnFakes, client: Either) -> None:
    served.stack.models.pieces = ['{"room": "hall"}']
    answer = await client.complete("Where?", response_schema={"type": "object"})
    assert answer.json() == {"room": "hall"}


async def test_explain_asks_no_model(served: RouterOnFakes, client: Either) -> None:
    explanation = await client.explain("Hi", task="calls")
    assert [each.model for each in explanation.candidates if each.chosen] == ["specialist-shop-calls"]
    assert (explanation.task, explanation.task_by, explanation.refusal) == ("calls", "caller", "")
    refused = await client.explain(DENIED)
    assert (refused.verdict, refused.findings[0].kind) == ("refuse", "denied")
    assert served.stack.models.prompts == []


@pytest.mark.parametrize(
    ("text", "wanted", "kind", "fields"),
    [
        ("", {}, InvalidRequestError, ("messages[0].content",)),
        ("Hi", {"top_p": 2.0}, InvalidRequestError, ("sampling.top_p",)),
        ("Hi", {"response_schema": {"type": "strin"}}, InvalidRequestError, ("response_schema.type",)),
        ("Hi", {"task": "nope"}, NotFoundError, ()),
        (DENIED, {}, RefusedError, ()),
    ],
)
async def test_an_error_says_what_to_do(
    client: Either, text: str, wanted: dict[str, Any], kind: type[GyreError], fields: tuple[str, ...]
) -> None:
    with pytest.raises(kind) as raised:
        await client.complete(text, **wanted)
    assert type(raised.value) is kind
    assert raised.value.fields == fields
    # What breaks a rule of the proto is turned away before it has an id.
    assert bool(raised.value.request_id) is (fields != ("sampling.top_p",))
    with pytest.raises(kind):
        await client.read(text, **wanted)


async def test_what_is_too_large_is_the_requests_fault(client: Either) -> None:
    with pytest.raises(InvalidRequestError):
        await client.complete("x" * 5 * 2**20)


async def test_a_limit_says_when_to_come_back(served: RouterOnFakes, client: Either) -> None:
    bundle = served.stack.catalogue.bundle
    limits = (Limit(of="requests", per="day", at_most=1),)
    web = bundle.applications["web"].model_copy(update={"limits": limits})
    limited = bundle.model_copy(update={"applications": {**bundle.applications, "web": web}})
    served.stack.catalogue = replace(served.stack.catalogue, bundle=limited)
    await client.complete("Hi")
    with pytest.raises(LimitReachedError) as raised:
        await client.complete("Hi")
    assert raised.value.retry_after_seconds > 10  # the deadline, so it was not waited for
    assert len(served.stack.recorder.interactions) == 1


async def test_an_unknown_key_is_turned_away(served: RouterOnFakes) -> None:
    async with AsyncClient(served.target, "nobody's") as client:
        with pytest.raises(UnauthenticatedError, match="not known"):
            await client.complete("Hi")


async def test_what_is_away_is_asked_again_and_recorded_once(served: RouterOnFakes, client: Either) -> None:
    served.stack.governance.silent_times = 2
    answer = await client.complete("Hi")
    assert answer.text == "Hello there"
    assert [record.finish_reason for record in served.stack.recorder.interactions] == ["refused", "refused", "stop"]


async def test_a_stream_is_asked_for_again_only_until_something_has_arrived(
    served: RouterOnFakes, client: Either
) -> None:
    served.stack.governance.silent_times = 1
    pieces, _ = await client.read("Hi")
    assert pieces == ["Hello there"]
    served.stack.models.pieces, served.stack.models.fails_with = ["word " * 60], Retryable("away")
    before = len(served.stack.models.prompts)
    with pytest.raises(UnavailableError):
        await client.read("Hi")
    assert len(served.stack.models.prompts) == before + 1


async def test_attempts_have_an_end(served: RouterOnFakes, client: Either) -> None:
    served.stack.governance.silent_times = 4
    with pytest.raises(UnavailableError) as raised:
        await client.complete("Hi")
    assert served.stack.governance.silent_times == 1
    assert raised.value.request_id == served.stack.recorder.last.request_id


async def test_a_router_that_is_not_there_is_unavailable() -> None:
    (port,) = free_ports(1)
    async with AsyncClient(f"127.0.0.1:{port}", KEY, retries=ONCE) as client:
        with pytest.raises(UnavailableError) as raised:
            await client.complete("Hi")
    assert raised.value.request_id == ""


async def test_the_deadline_is_passed_on(served: RouterOnFakes, client: Either) -> None:
    served.stack.models.hangs_after = 0
    with pytest.raises(DeadlineExceededError) as raised:
        await client.complete("Hi", timeout_seconds=0.5)
    assert raised.value.request_id
    assert served.stack.models.timeouts[0] <= 0.5


async def test_the_same_key_gets_the_same_answer(served: RouterOnFakes, client: Either) -> None:
    answers = [await client.complete("Hi", idempotency_key="k") for _ in range(2)]
    assert answers[0] == answers[1]
    assert len(served.stack.models.prompts) == 1
    with pytest.raises(IdempotencyKeyReusedError):
        await client.complete("Ho", idempotency_key="k")
    others = [await client.complete("Hi") for _ in range(2)]
    assert others[0].request_id != others[1].request_id


async def test_what_is_broken_over_there_is_said_with_the_requests_id(served: RouterOnFakes) -> None:
    served.stack.models.fails_with = ZeroDivisionError()
    async with AsyncClient(served.target, KEY) as client:
        with pytest.raises(UnexpectedError) as raised:
            await client.complete("Hi")
    assert raised.value.request_id == served.stack.recorder.last.request_id


async def test_a_stream_that_is_left_stops_the_model(served: RouterOnFakes) -> None:
    served.stack.models.pieces, served.stack.models.hangs_after = ["word " * 60, "never"], 1
    async with AsyncClient(served.target, KEY) as client, asyncio.timeout(10):
        async with client.stream("Hi") as stream:
            assert await anext(aiter(stream))
            with pytest.raises(RuntimeError, match="has not been read"):
                _ = stream.answer
        await served.stack.models.stopped.wait()
    await served.stack.router.drain()


async def test_a_blocking_stream_that_is_left_stops_the_model(served: RouterOnFakes) -> None:
    served.stack.models.pieces, served.stack.models.hangs_after = ["word " * 60, "never"], 1

    def begin() -> str:
        with Client(served.target, KEY) as client, client.stream("Hi") as stream:
            return next(iter(stream))

    async with asyncio.timeout(10):
        assert await asyncio.to_thread(begin)
        await served.stack.models.stopped.wait()
    await served.stack.router.drain()


async def test_tls() -> None:
    key, certificate = self_signed()
    stack, (port,) = Stack(), free_ports(1)
    server = grpc.aio.server()
    servicer = RouterServicer(stack.router, stack.clock, Idempotency(Bounds(1.0, 1, 1)))
    router_pb2_grpc.add_RouterServicer_to_server(servicer, server)
    server.add_secure_port(f"127.0.0.1:{port}", grpc.ssl_server_credentials([(key, certificate)]))
    await server.start()
    async with AsyncClient(f"localhost:{port}", KEY, tls=Tls(root_certificates=certificate)) as client:
        assert (await client.complete("Hi")).text == "Hello there"
    async with AsyncClient(f"localhost:{port}", KEY, tls=Tls(), retries=ONCE) as client:
        with pytest.raises(UnavailableError):  # nobody that the system knows vouches for it
            await client.complete("Hi")
    await server.stop(None)


def self_signed() -> tuple[bytes, bytes]:
    """Return a private key and a certificate for this machine, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private, certificate.public_bytes(pem)
