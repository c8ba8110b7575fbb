"""`gyre schemas`, with a small stand-in for a Confluent-compatible registry."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from click.testing import CliRunner

from gyre.cli import main
from schemas import avro, clickhouse
from schemas.topics import Topic


class Registry(ThreadingHTTPServer):
    """Subjects with versions; takes ids only in import mode, as the real one does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.subjects: dict[str, dict[int, tuple[int, str]]] = {}
        self.importing: set[str] = set()
        self.posts = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Registry

    def log_message(self, format: str, *args: Any) -> None:
        return

    def do_GET(self) -> None:
        parts = [unquote(part) for part in urlsplit(self.path).path.split("/")[1:]]
        versions = self.server.subjects.get(parts[1])
        if versions is None:
            self._answer(404, {"error_code": 40401, "message": f"Subject '{parts[1]}' not found."})
        elif len(parts) == 3:
            self._answer(200, sorted(versions))
        else:
            schema_id, schema = versions[int(parts[3])]
            self._answer(200, {"subject": parts[1], "version": int(parts[3]), "id": schema_id, "schema": schema})

    def do_PUT(self) -> None:
        subject, mode = unquote(urlsplit(self.path).path.split("/")[2]), self._body()["mode"]
        (self.server.importing.add if mode == "IMPORT" else self.server.importing.discard)(subject)
        self._answer(200, {"mode": mode})

    def do_POST(self) -> None:
        subject, body = unquote(self.path.split("/")[2]), self._body()
        if subject not in self.server.importing:
            self._answer(422, {"error_code": 42205, "message": f"Subject {subject} is not in import mode"})
            return
        self.server.posts += 1
        self.server.subjects.setdefault(subject, {})[body["version"]] = (body["id"], body["schema"])
        self._answer(200, {"id": body["id"]})

    def _body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def gyre(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["schemas", *arguments])


def test_pushing_registers_every_topic_under_the_ids_of_git(registry: Registry) -> None:
    result = gyre("push", "--url", registry.url)

    assert result.exit_code == 0, result.output
    ids = avro.published_ids()
    for topic in Topic:
        assert [found for _, (found, _) in sorted(registry.subjects[f"{topic}-value"].items())] == ids[topic]
        (letters,) = registry.subjects[f"{topic.dead_letters}-value"].values()
        assert letters[0] == ids[avro.DEAD_LETTERS][-1]
        newest_id, newest = registry.subjects[f"{topic}-value"][len(ids[topic])]
        assert json.loads(newest) == avro.published(topic, newest_id)
    assert registry.importing == set()


def test_pushing_twice_is_pushing_once(registry: Registry) -> None:
    gyre("push", "--url", registry.url)
    posts = registry.posts
    result = gyre("push", "--url", registry.url)
    assert (result.exit_code, registry.posts) == (0, posts)
    assert "is there already" in result.output


def test_a_registry_with_other_schemas_is_left_alone(registry: Registry) -> None:
    topic = next(iter(Topic))
    subject, ids = f"{topic}-value", avro.published_ids()[topic]
    registry.subjects[subject] = {1: (77, "{}")}
    result = gyre("push", "--url", registry.url)
    assert result.exit_code == 1
    assert f"{subject} has the ids [77] in the registry, wanted {ids}" in result.output
    assert registry.posts == 0


def test_a_registry_that_is_not_there_is_named() -> None:
    result = gyre("push", "--url", "http://127.0.0.1:9")
    assert result.exit_code == 1
    assert "No schema registry answers at http://127.0.0.1:9" in result.output


def test_an_address_that_is_none_is_refused() -> None:
    result = gyre("push", "--url", "file:///etc/hosts")
    assert result.exit_code == 2
    assert "is no http:// or https:// address" in result.output


def test_checking_says_that_all_is_in_order() -> None:
    result = gyre("check")
    assert result.exit_code == 0
    assert "are in order" in result.output


def test_checking_names_each_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(avro, "problems", lambda: ["an event has changed"])
    monkeypatch.setattr(clickhouse, "problems", lambda: ["a view has no comment"])
    result = gyre("check")
    assert result.exit_code == 1
    assert result.output.splitlines() == ["an event has changed", "a view has no comment"]


def test_minting_nothing_new_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(avro, "mint", list)
    assert gyre("mint").output == "No event has changed.\n"


def test_minting_an_incompatible_change_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise avro.IncompatibleSchemaError("router.feedback.v1.rating: was gone")

    monkeypatch.setattr(avro, "mint", refuse)
    result = gyre("mint")
    assert result.exit_code == 1
    assert "router.feedback.v1.rating: was gone; add fields with defaults" in result.output
