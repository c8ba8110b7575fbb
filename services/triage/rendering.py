"""The console's pages: templates, and what a browser may make of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from aiohttp import web

from services.runtime.errors import NotFound, PermissionDenied, ResourceExhausted, Retryable, Unauthenticated

HERE = Path(__file__).parent
# What a browser may load: our own files.
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; "
    "img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_STATUSES: list[tuple[type[Exception], int]] = [
    (Unauthenticated, 403),
    (PermissionDenied, 403),
    (NotFound, 404),
    (ResourceExhausted, 429),
    (Retryable, 503),
]


class Pages:
    """Renders templates."""

    def __init__(self) -> None:
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def response(self, template: str, status: int, **values: Any) -> web.Response:
        """Return a page."""
        text = self._environment.get_template(template).render(**values)
        return web.Response(text=text, content_type="text/html", status=status)


def sentence(error: Exception) -> str:
    """Return an error as a page says it."""
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."


def status_of(error: Exception) -> int:
    """Return the HTTP status of an error."""
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 400)
