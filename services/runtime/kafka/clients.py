"""What all clients of Kafka do: say who they are, wait for it, and let go of it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError

from services.runtime import telemetry
from services.runtime.errors import Retryable
from services.runtime.settings import KafkaSettings

T = TypeVar("T")

RETRY_SECONDS = 1.0
STOP_SECONDS = 4.0


def connection(settings: KafkaSettings) -> dict[str, Any]:
    """Return what every client of aiokafka is told: where Kafka is, how it is checked, and who asks."""
    told: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers,
        "security_protocol": settings.security_protocol,
    }
    if settings.is_encrypted:
        told["ssl_context"] = settings.ssl_context()
    if settings.has_identity:
        told |= {
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": settings.user,
            "sasl_plain_password": settings.password.get_secret_value(),
        }
    return told


async def until_answered(what: str, attempt: Callable[[], Awaitable[T]]) -> T:
    """Try until it is not `Retryable` any more. The log says what is waited for."""
    while True:
        try:
            return await attempt()
        except Retryable as error:
            telemetry.log().warning("waiting", what=what, error=str(error))
            await asyncio.sleep(RETRY_SECONDS)


async def stop(client: AIOKafkaConsumer | AIOKafkaProducer) -> None:
    """Disconnect a client, which first sends what is under way and leaves its group, if the broker answers in time.

    Left to itself it waits as long as a request may take, and the process would be killed meanwhile.
    """
    stopping = asyncio.ensure_future(client.stop())
    await asyncio.wait([stopping], timeout=STOP_SECONDS)
    if not stopping.done():
        stopping.cancel()
        await asyncio.wait([asyncio.ensure_future(client._client.close())], timeout=STOP_SECONDS)  # its connections


_send = AIOKafkaConnection.send


def _send_or_break(connection: AIOKafkaConnection, *arguments: Any, **named: Any) -> Any:
    """Send as aiokafka does, for which only an OSError means that a connection is broken.

    uvloop raises a RuntimeError when what is written to has just been closed, and a client that meets one stops for
    good (https://github.com/aio-libs/aiokafka/issues/1038).
    """
    try:
        return _send(connection, *arguments, **named)
    except RuntimeError as error:
        connection.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"Connection at {connection.host}:{connection.port} broken: {error}") from error


AIOKafkaConnection.send = _send_or_break
