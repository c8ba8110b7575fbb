"""Where the router is, who asks, how long, and how often again."""

import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from gyre.client.errors import GyreError, LimitReachedError, UnavailableError

TARGET = "GYRE_TARGET"
KEY = "GYRE_API_KEY"
IDEMPOTENCY_KEY = "idempotency-key"
OPTIONS: Sequence[tuple[str, int]] = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
]

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Tls:
    """How the router is believed, in PEM: by the system's certificates unless `root_certificates` says others.

    Attributes:
        root_certificates: Who may vouch for the router.
        private_key: Of the application, where the router's proxy asks for a certificate.
        certificate_chain: That certificate.
    """

    root_certificates: bytes | None = None
    private_key: bytes | None = None
    certificate_chain: bytes | None = None

    @classmethod
    def believing(cls, ca_file: str | os.PathLike[str]) -> "Tls":
        """Return one that believes those whose certificates a PEM file holds, and nobody else.

        Raises:
            OSError: The file cannot be read.
        """
        return cls(root_certificates=Path(ca_file).read_bytes())

    def credentials(self) -> grpc.ChannelCredentials:
        """Return the same as grpc has it."""
        return grpc.ssl_channel_credentials(self.root_certificates, self.private_key, self.certificate_chain)


@dataclass(frozen=True)
class Retries:
    """How often the same is tried again when the router or something behind it is away.

    Attributes:
        attempts: In all; 1 for no retry.
        first_seconds: The longest pause before the first retry; it doubles with each.
        most_seconds: The longest pause there is.
    """

    attempts: int = 3
    first_seconds: float = 0.2
    most_seconds: float = 5.0


RETRIES = Retries()


class Attempts:
    """The attempts at one request, all within its deadline."""

    def __init__(self, retries: Retries, timeout_seconds: float) -> None:
        self._retries = retries
        self._deadline = time.monotonic() + timeout_seconds
        self._made = 0

    def left_seconds(self) -> float:
        """Return the time that is left of the deadline."""
        return max(0.0, self._deadline - time.monotonic())

    def pause_seconds(self, error: GyreError) -> float | None:
        """Return the pause before the next attempt; None if that would not help, or attempts or time are used up.

        Where a limit is reached, it begins when the router says that one may come back.

        Any part of the longest pause, so that many callers do not come back at once ("full jitter", M. Brooker,
        Exponential Backoff And Jitter, 2015).
        """
        self._made += 1
        longest = min(self._retries.first_seconds * 2 ** (self._made - 1), self._retries.most_seconds)
        pause = random.uniform(0, longest)  # noqa: S311 - spreads load, hides nothing
        if isinstance(error, LimitReachedError):
            pause += error.retry_after_seconds
        may_help = isinstance(error, UnavailableError | LimitReachedError) and self._made < self._retries.attempts
        return pause if may_help and pause < self.left_seconds() else None


def target_of(target: str | None) -> str:
    """Return where the router is: the argument, or `GYRE_TARGET`, or this machine."""
    return target or os.environ.get(TARGET) or "127.0.0.1:18081"


def authorization_of(key: str | None) -> Metadata:
    """Return the metadata that shows the application key: the argument, or `GYRE_API_KEY`.

    Raises:
        ValueError: There is neither.
    """
    key = key or os.environ.get(KEY)
    if not key:
        raise ValueError(f"key: wanted an application key, as the argument or in {KEY}")
    return (("authorization", f"Bearer {key}"),)
