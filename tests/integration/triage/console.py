"""The console as a browser without scripts uses it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.integration.triage.conftest import PASSWORD, Process


class Browser:
    """Keeps cookies, and sends what forms hold."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.client.get(path, **options)

    def post(self, path: str, **fields: str) -> httpx.Response:
        """Send a form from the page at `/`."""
        return self.client.post(path, data={"csrf": self.form_token(), **fields})

    def form_token(self) -> str:
        found = re.search(r'name="csrf" value="([^"]+)"', self.get("/").text)
        return found[1] if found else ""

    def sign_in(self, name: str, password: str = PASSWORD) -> httpx.Response:
        return self.client.post("/sign-in", data={"name": name, "password": password})

    @property
    def is_in(self) -> bool:
        """Whether the queue is shown."""
        return "Sign out" in self.get("/").text


@contextmanager
def browser(triage: Process) -> Iterator[Browser]:
    """Open a browser at the console."""
    headers = {"Accept": "text/html"}
    with httpx.Client(base_url=triage.url, headers=headers, follow_redirects=True, timeout=60) as client:
        yield Browser(client)
