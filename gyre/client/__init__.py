"""The client of applications: an answer, a stream, feedback in one line.

    from gyre.client import Client, Tls

    with Client("router.example:443", tls=Tls()) as client:
        answer = client.complete("Where is my order?", task="small-talk")
        answer.feedback(rating=1)

It stands on grpcio and protobuf alone. `AsyncClient` is the same for asyncio.
"""

from gyre.client.answers import Answer, AsyncAnswer
from gyre.client.asynchronous import AsyncClient, AsyncStream
from gyre.client.blocking import Client, Stream
from gyre.client.connection import Retries, Tls
from gyre.client.errors import (
    DeadlineExceededError,
    GyreError,
    IdempotencyKeyReusedError,
    InvalidRequestError,
    LimitReachedError,
    NotFoundError,
    RefusedError,
    UnauthenticatedError,
    UnavailableError,
    UnexpectedError,
)
from gyre.client.requests import Message, Tool, ToolCall

__all__ = [
    "Answer",
    "AsyncAnswer",
    "AsyncClient",
    "AsyncStream",
    "Client",
    "DeadlineExceededError",
    "GyreError",
    "IdempotencyKeyReusedError",
    "InvalidRequestError",
    "LimitReachedError",
    "Message",
    "NotFoundError",
    "RefusedError",
    "Retries",
    "Stream",
    "Tls",
    "Tool",
    "ToolCall",
    "UnauthenticatedError",
    "UnavailableError",
    "UnexpectedError",
]
