"""The port where Prometheus asks for metrics."""

import socket
import ssl
import sys
import threading
from http.server import ThreadingHTTPServer
from typing import Any

import structlog
from prometheus_client import MetricsHandler, start_http_server

from services.runtime import edges
from services.runtime.tls import Tls, peer_identities

# A scrape that takes longer is given up.
_SCRAPE_SECONDS = 10.0


def serve_metrics(service: str, host: str, port: int, tls: Tls | None) -> None:
    """Answer who scrapes, in threads of its own; with TLS, Prometheus alone."""
    if tls is None:
        start_http_server(port, addr=host)
        return
    server = _MetricsServer(host, port, tls, edges.callers(service, "metrics"))
    threading.Thread(target=server.serve_forever, daemon=True).start()


class _MetricsServer(ThreadingHTTPServer):
    """Answers Prometheus.

    prometheus_client's own takes any certificate of the CA, never renews its own, and does one handshake at a time.
    """

    daemon_threads = True

    def __init__(self, host: str, port: int, tls: Tls, callers: frozenset[str]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._context = tls.server_context(mutual=True)
        self._callers = callers
        super().__init__((host, port), _MetricsHandler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Answer a caller who may ask; within the caller's own thread."""
        request.settimeout(_SCRAPE_SECONDS)
        with self._context.wrap_socket(request, server_side=True) as connection:
            found = peer_identities(connection)
            if found & self._callers:
                super().finish_request(connection, client_address)
            else:
                _warn("caller refused", reason="not one of those who may ask here", caller=sorted(found))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log why a connection came to nothing."""
        error = sys.exc_info()[1]
        reason = error.reason if isinstance(error, ssl.SSLError) else str(error)
        _warn("connection closed", reason=reason)


class _MetricsHandler(MetricsHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Log no scrape."""


def _warn(event: str, **fields: Any) -> None:
    structlog.get_logger().warning(event, port="metrics", **fields)
