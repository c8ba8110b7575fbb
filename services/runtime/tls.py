"""TLS: this process's certificate, whom it believes, and whom it answers.

The certificate lies in a folder, and is replaced there before it ends. Each new connection uses what lies there when it
begins, so nothing needs to be started anew; a connection that is open goes on.
"""

import os
import ssl
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import grpc
import structlog
from cryptography import x509

from services.runtime.errors import Fatal
from services.runtime.settings import TlsSettings

CERTIFICATE, KEY, AUTHORITIES = "tls.crt", "tls.key", "ca.crt"
_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class Certificate:
    """What lay in the folder at one time.

    Attributes:
        names: The DNS names in the certificate.
        expires: When it ends, in seconds since 1970.
        chain: The certificate and what leads to its CA, in PEM.
        key: Its private key, in PEM.
        authorities: Certificates of the CAs that are believed, in PEM.
        mutual: Of a server that asks who calls.
        public: Of a server that does not.
        client: Of who calls.
    """

    names: tuple[str, ...]
    expires: float
    chain: bytes
    key: bytes
    authorities: bytes
    mutual: ssl.SSLContext
    public: ssl.SSLContext
    client: ssl.SSLContext


class Tls:
    """The certificate in a folder, read again when it has changed. Threads may share it."""

    def __init__(self, folder: Path) -> None:
        """Read the folder.

        Raises:
            Fatal: What should lie there does not.
        """
        self._paths = tuple(folder / name for name in (CERTIFICATE, KEY, AUTHORITIES))
        self._lock = threading.Lock()
        try:
            self._seen = self._stamp()
            self._current = _read(*self._paths)
        except (OSError, ValueError) as error:
            raise Fatal(f"GYRE_TLS_DIR: {_unusable(folder, error)}") from error

    def current(self) -> Certificate:
        """Return what lies there now; where that is of no use, what lay there before."""
        try:
            stamp = self._stamp()
        except OSError:  # in the middle of a replacement
            return self._current
        if stamp != self._seen:
            with self._lock:
                if stamp != self._seen:
                    self._seen = stamp
                    self._renew()
        return self._current

    def _renew(self) -> None:
        try:
            self._current = _read(*self._paths)
        except (OSError, ValueError) as error:
            structlog.get_logger().warning("certificate not renewed", error=_unusable(self._paths[0].parent, error))
        else:
            structlog.get_logger().info("certificate renewed", names=self._current.names)

    def _stamp(self) -> tuple[tuple[int, int], ...]:
        return tuple((found.st_ino, found.st_mtime_ns) for found in map(os.stat, self._paths))

    # Servers

    def server_context(self, *, mutual: bool) -> ssl.SSLContext:
        """Return what a server listens with, for as long as it likes; mutual: it asks who calls."""

        def choose(connection: Any, _name: str | None, _context: ssl.SSLContext) -> None:
            certificate = self.current()
            connection.context = certificate.mutual if mutual else certificate.public

        certificate = _read(*self._paths)  # contexts of its own: a callback of the shared ones would call itself
        context = certificate.mutual if mutual else certificate.public
        context.sni_callback = choose
        return context

    def server_credentials(self, *, mutual: bool) -> grpc.ServerCredentials:
        """Return the same for gRPC."""
        given = self.current()

        def configuration() -> grpc.ServerCertificateConfiguration:
            return grpc.ssl_server_certificate_configuration(
                [(given.key, given.chain)], given.authorities if mutual else None
            )

        def renewed() -> grpc.ServerCertificateConfiguration | None:
            nonlocal given
            now = self.current()
            if now is given:
                return None
            given = now
            return configuration()

        # Its types do not know that None means no change.
        fetch = cast(Callable[[], grpc.ServerCertificateConfiguration], renewed)
        return grpc.dynamic_ssl_server_credentials(configuration(), fetch, require_client_authentication=mutual)

    # Who calls

    def client_context(self) -> ssl.SSLContext:
        """Return what the next connection is made with."""
        return self.current().client

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Return the same for a gRPC channel, which keeps it for good: see `Renewed`."""
        now = self.current()
        return grpc.ssl_channel_credentials(now.authorities, now.key, now.chain)


class Renewed(Generic[_T]):
    """What is made with a certificate and keeps it, made anew once that was replaced; without TLS, made once.

    What was made before is kept to its end, for calls may be under way on it: one for each time that a certificate was
    replaced.
    """

    def __init__(self, tls: Tls | None, make: Callable[[grpc.ChannelCredentials | None], _T]) -> None:
        self._tls = tls
        self._make = make
        self._certificate = None if tls is None else tls.current()
        self.made = [make(None if tls is None else tls.channel_credentials())]

    def current(self) -> _T:
        """Return what was made with the certificate as it is now."""
        if self._tls is not None:
            now = self._tls.current()
            if now is not self._certificate:
                self._certificate = now
                self.made.append(self._make(self._tls.channel_credentials()))
        return self.made[-1]


def tls_of(settings: TlsSettings) -> Tls | None:
    """Return how networks are crossed; None: in the clear.

    Raises:
        Fatal: There should be a certificate, and is none.
    """
    return Tls(settings.folder) if settings.folder else None


def identities(names: Iterable[str]) -> frozenset[str]:
    """Return who a peer is, by the DNS names in its certificate."""
    return frozenset(name.partition(".")[0] for name in names)


def peer_identities(connection: ssl.SSLObject | ssl.SSLSocket) -> frozenset[str]:
    """Return who is at the other end of a connection."""
    found: Any = (connection.getpeercert() or {}).get("subjectAltName", ())  # pairs of kind and name
    return identities(name for kind, name in found if kind == "DNS")


def _read(chain: Path, key: Path, authorities: Path) -> Certificate:
    """Read what lies in a folder.

    Raises:
        OSError: A file is not there, holds no PEM, or the key is another certificate's.
        ValueError: A file holds no PEM.
    """
    own = x509.load_pem_x509_certificate(chain.read_bytes())
    try:
        names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        dns = tuple(names.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound as error:
        raise ValueError("the certificate has no DNS name in its SAN") from error
    contexts = []
    for side in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT):
        context = ssl.SSLContext(side)
        context.load_cert_chain(chain, key, password="")  # so that no terminal is asked for one
        context.load_verify_locations(authorities)
        contexts.append(context)
    mutual, public, client = contexts
    mutual.verify_mode = ssl.CERT_REQUIRED
    # Ours speak the newest alone. None resumes a session: that shows no certificate, and the caller's may have ended.
    mutual.minimum_version = client.minimum_version = ssl.TLSVersion.TLSv1_3
    mutual.num_tickets = 0
    return Certificate(
        dns,
        own.not_valid_after_utc.timestamp(),
        chain.read_bytes(),
        key.read_bytes(),
        authorities.read_bytes(),
        mutual,
        public,
        client,
    )


def _unusable(folder: Path, error: Exception) -> str:
    wanted = f"wanted {CERTIFICATE}, {KEY} and {AUTHORITIES} in PEM, the key that of the certificate"
    return f"{folder} cannot be used: {error}; {wanted}"
