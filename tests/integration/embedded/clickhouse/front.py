"""The ClickHouse front as a process, and what its tests ask of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import clickhouse_connect
import httpx
import pytest
from clickhouse_connect.driver.client import Client

from embedded.clickhouse.users import create_users_file
from embedded.ports import free_ports

PASSWORDS = {"audit": "pass-of-audit", "analyst": "pass-of-analyst"}
START_SECONDS = 30.0


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


@dataclass
class Front:
    process: subprocess.Popen[str]
    port: int
    folder: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def client(self, user: str = "audit", **kwargs: Any) -> Client:
        return clickhouse_connect.get_client(
            host="127.0.0.1", port=self.port, username=user, password=PASSWORDS[user], **kwargs
        )

    def post(self, sql: str | bytes, user: str = "audit", content: Any = None, **params: Any) -> httpx.Response:
        if content is not None:
            params["query"], sql = sql, content
        return httpx.post(self.url, params=params, content=sql, auth=(user, PASSWORDS[user]), timeout=120)

    def text(self, sql: str, **params: Any) -> str:
        response = self.post(sql, **params)
        assert response.status_code == 200, response.text
        return response.text

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=60)


def environment(folder: Path, port: int) -> dict[str, str]:
    prefix = "GYRE_EMBEDDED_CLICKHOUSE_"
    return os.environ | {
        f"{prefix}DATA_DIR": str(folder / "data"),
        f"{prefix}USERS_FILE": str(folder / "users.json"),
        f"{prefix}PORT": str(port),
        f"{prefix}CONNECTIONS": "4",
    }


def launch(folder: Path, port: int, **settings: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "embedded.clickhouse"],
        env=environment(folder, port) | {f"GYRE_EMBEDDED_CLICKHOUSE_{name}": value for name, value in settings.items()},
        stderr=subprocess.PIPE,
        text=True,
    )


def start(folder: Path, **settings: str) -> Front:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "users.json").exists():
        create_users_file(folder / "users.json", PASSWORDS)
    (port,) = free_ports(1)
    front = Front(launch(folder, port, **settings), port, folder)

    def answers() -> bool:
        if front.process.poll() is not None:
            assert front.process.stderr is not None
            pytest.fail(f"the front ended: {front.process.stderr.read()}")
        try:
            return httpx.get(front.url + "ping").text == "Ok.\n"
        except httpx.TransportError:
            return False

    wait_until(answers, START_SECONDS)
    return front


def code(response: httpx.Response) -> int:
    return int(response.headers["X-ClickHouse-Exception-Code"])
