from __future__ import annotations

import base64

import pytest
from multidict import CIMultiDict

from embedded.clickhouse.errors import ClickHouseError
from embedded.clickhouse.request import Credentials, QueryRequest, SessionRequest, parse_request, read_credentials


def request(method: str = "POST", headers: dict[str, str] | None = None, **parameters: str) -> QueryRequest:
    return parse_request(method, parameters, CIMultiDict(headers or {}))


def refusal(**parameters: str) -> int:
    with pytest.raises(ClickHouseError) as failure:
        request(**parameters)
    return failure.value.code


def test_parameters_are_told_from_settings_and_from_the_protocols_own() -> None:
    parsed = request(query="SELECT {x:Int8}", param_x="1", max_threads="2", database="d", wait_end_of_query="1")
    assert parsed.sql == b"SELECT {x:Int8}"
    assert parsed.parameters == {"x": "1"}
    assert parsed.settings == {"max_threads": "2"}
    assert parsed.database == "d"
    assert parsed.wait_end_of_query


def test_only_get_and_head_are_read_only() -> None:
    assert [request(method).read_only for method in ("GET", "HEAD", "POST", "PUT")] == [True, True, False, False]


def test_a_query_without_an_id_is_given_one_of_its_own() -> None:
    assert request(query_id="mine").query_id == "mine"
    assert request().query_id != request().query_id


def test_headers_name_the_database_and_format_where_parameters_do_not() -> None:
    headers = {"x-clickhouse-database": "h", "x-clickhouse-format": "CSV"}
    assert (request(headers=headers).database, request(headers=headers).format) == ("h", "CSV")
    assert request(headers=headers, database="p", default_format="XML").format == "XML"
    assert request().format == "TabSeparated"


def test_a_session_has_a_timeout_of_a_minute_unless_told() -> None:
    assert request().session is None
    assert request(session_id="s").session == SessionRequest("s", 60, must_exist=False, close_after=False)
    told = request(session_id="s", session_timeout="5", session_check="1", close_session="1")
    assert told.session == SessionRequest("s", 5, must_exist=True, close_after=True)


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"session_id": "s", "session_timeout": "-1"}, 374),
        ({"session_id": "s", "session_timeout": "3601"}, 374),
        ({"session_id": "s", "session_check": "maybe"}, 467),
        ({"wait_end_of_query": "2"}, 467),
        ({"buffer_size": "many"}, 72),
        ({"role": "admin"}, 512),
        ({"a = 1, readonly": "0"}, 115),
        ({"param_a = 1, readonly": "0"}, 457),
        ({"default_format": "CSV SETTINGS readonly = 0"}, 73),
        ({"query_id": "a\r\nX-Injected: 1"}, 36),
    ],
)
def test_a_parameter_that_is_not_what_it_should_be_is_refused(parameters: dict[str, str], code: int) -> None:
    assert refusal(**parameters) == code


@pytest.mark.parametrize(
    ("accepted", "asked", "chosen"),
    [
        ("gzip, deflate, br, zstd", "1", "zstd"),
        ("gzip, lz4", "1", "lz4"),
        ("gzip;q=0, deflate;q=0.5", "1", "deflate"),
        ("br", "1", None),
        ("", "1", None),
        ("gzip", "0", None),
    ],
)
def test_an_answer_is_compressed_when_asked_for_and_possible(accepted: str, asked: str, chosen: str | None) -> None:
    parsed = request(headers={"Accept-Encoding": accepted}, enable_http_compression=asked)
    assert parsed.response_coding == chosen


def test_a_content_encoding_that_is_not_known_is_refused() -> None:
    with pytest.raises(ClickHouseError, match="Unknown compression method 'snappy'"):
        request(headers={"Content-Encoding": "snappy"})


def basic(text: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


@pytest.mark.parametrize(
    ("parameters", "headers", "expected"),
    [
        ({}, {}, Credentials("default", "")),
        ({}, basic("u:p:q"), Credentials("u", "p:q")),
        ({}, {"X-ClickHouse-User": "u", "X-ClickHouse-Key": "p"}, Credentials("u", "p")),
        ({"user": "u", "password": "p"}, {}, Credentials("u", "p")),
        ({"user": "u", "password": "p"}, basic("other:x"), Credentials("u", "p")),
    ],
)
def test_credentials_are_read_from_each_place(
    parameters: dict[str, str], headers: dict[str, str], expected: Credentials
) -> None:
    assert read_credentials(parameters, CIMultiDict(headers)) == expected


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer t"},
        {"Authorization": "Basic ?"},
        {"Authorization": "Basic " + base64.b64encode(b"\xff").decode()},
        basic("u:p") | {"X-ClickHouse-User": "u"},
    ],
)
def test_credentials_that_cannot_be_read_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ClickHouseError) as failure:
        read_credentials({}, CIMultiDict(headers))
    assert failure.value.code == 516


def test_a_password_is_never_shown() -> None:
    assert "hidden" not in repr(Credentials("u", "hidden"))
