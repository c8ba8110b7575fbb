"""What one HTTP request asks for, as a value; what ClickHouse would refuse before running anything is refused here."""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from embedded.clickhouse.compression import CODINGS
from embedded.clickhouse.errors import ClickHouseError

DEFAULT_SESSION_TIMEOUT_SECONDS = 60
MAX_SESSION_TIMEOUT_SECONDS = 3600
DEFAULT_BUFFER_BYTES = 1 << 20
MAX_BUFFER_BYTES = 64 << 20

# Parameters of the protocol; every other one is a setting of the engine.
_PROTOCOL_PARAMETERS = frozenset(
    (
        *("query", "query_id", "database", "default_format", "user", "password", "role", "quota_key", "stacktrace"),
        *("session_id", "session_timeout", "session_check", "close_session"),
        *("compress", "decompress", "enable_http_compression", "http_zlib_compression_level"),
        *("buffer_size", "wait_end_of_query", "client_protocol_version"),
        # Progress headers are a courtesy that clients can do without; there are none.
        *("send_progress_in_http_headers", "http_headers_progress_interval_ms", "add_http_cors_header"),
    )
)
_SETTING_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")


@dataclass(frozen=True)
class Credentials:
    """The name and password that came with a request; the password is kept out of every representation."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class SessionRequest:
    """Which session a query wants to run in."""

    id: str
    timeout_seconds: int
    must_exist: bool
    close_after: bool


@dataclass(frozen=True)
class QueryRequest:
    """One query as it came over HTTP, the body aside.

    Attributes:
        sql: the `query` parameter; the body follows it.
        read_only: the method was GET, which changes nothing.
        format: the format to answer in where the statement names none.
        parameters: the `param_*` values, escaped as ClickHouse's TabSeparated format escapes text.
        settings: the engine settings that came as parameters.
        buffer_bytes: how much of the answer is held back before its headers are sent.
        request_coding: the Content-Encoding of the body.
        response_coding: the Content-Encoding to answer with.
        response_blocks, request_blocks: ClickHouse's own checksummed blocks (`compress=1`, `decompress=1`).
    """

    sql: bytes
    read_only: bool
    credentials: Credentials
    query_id: str
    database: str | None
    format: str
    session: SessionRequest | None
    parameters: dict[str, str]
    settings: dict[str, str]
    wait_end_of_query: bool
    buffer_bytes: int
    request_coding: str | None
    response_coding: str | None
    response_blocks: bool
    request_blocks: bool


def parse_request(method: str, parameters: Mapping[str, str], headers: Mapping[str, str]) -> QueryRequest:
    """Reads a request's parameters and headers.

    Args:
        method: the HTTP method.
        parameters: of the URL, and of a multipart form's plain fields.
        headers: case-insensitive.

    Raises:
        ClickHouseError: contradictory or missing credentials, a parameter that isn't what it should be, an encoding
            or a role that isn't known.
    """
    if role := parameters.get("role"):
        raise ClickHouseError.named(512, "SET_NON_GRANTED_ROLE", f"Role {role} should be granted to set as a current.")
    return QueryRequest(
        sql=parameters.get("query", "").encode("utf-8", "surrogateescape"),
        read_only=method in ("GET", "HEAD"),
        credentials=read_credentials(parameters, headers),
        query_id=_query_id(parameters.get("query_id", "")),
        database=parameters.get("database") or headers.get("X-ClickHouse-Database") or None,
        format=_format(parameters.get("default_format") or headers.get("X-ClickHouse-Format") or "TabSeparated"),
        session=_session(parameters),
        parameters=_query_parameters(parameters),
        settings=_settings(parameters),
        wait_end_of_query=_flag(parameters, "wait_end_of_query"),
        buffer_bytes=_natural(parameters, "buffer_size", DEFAULT_BUFFER_BYTES, MAX_BUFFER_BYTES),
        request_coding=_request_coding(headers.get("Content-Encoding", "")),
        response_coding=(
            _response_coding(headers.get("Accept-Encoding", ""))
            if _flag(parameters, "enable_http_compression") and not _flag(parameters, "compress")
            else None
        ),
        response_blocks=_flag(parameters, "compress"),
        request_blocks=_flag(parameters, "decompress"),
    )


def read_credentials(parameters: Mapping[str, str], headers: Mapping[str, str]) -> Credentials:
    """Takes credentials from the X-ClickHouse headers, from Authorization, or from the URL; without any, `default`.

    Raises:
        ClickHouseError: code 516, where two ways are used at once or the Authorization header can't be read.
    """
    in_headers = "X-ClickHouse-User" in headers or "X-ClickHouse-Key" in headers
    in_url = "user" in parameters or "password" in parameters
    authorization = headers.get("Authorization", "")
    if in_headers and (authorization or in_url):
        raise _authentication_failed(
            "it is not allowed to use X-ClickHouse HTTP headers and other authentication methods simultaneously"
        )
    if in_headers:
        return Credentials(headers.get("X-ClickHouse-User", "default"), headers.get("X-ClickHouse-Key", ""))
    if in_url:
        # As in ClickHouse, what is written in the URL outranks what a browser remembered.
        return Credentials(parameters.get("user", "default"), parameters.get("password", ""))
    if not authorization:
        return Credentials("default", "")
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        raise _authentication_failed(f"'{scheme}' HTTP Authorization scheme is not supported")
    try:
        user, _, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise _authentication_failed("the Authorization header is not valid base64 of user:password") from None
    return Credentials(user, password)


def _authentication_failed(why: str) -> ClickHouseError:
    return ClickHouseError.named(516, "AUTHENTICATION_FAILED", f"Invalid authentication: {why}.")


def _session(parameters: Mapping[str, str]) -> SessionRequest | None:
    session_id = parameters.get("session_id", "")
    if not session_id:
        return None
    text = parameters.get("session_timeout", str(DEFAULT_SESSION_TIMEOUT_SECONDS))
    if not text.isascii() or not text.isdigit():
        raise ClickHouseError.named(374, "INVALID_SESSION_TIMEOUT", f"Invalid session timeout: '{text}'.")
    timeout = int(text)
    if timeout > MAX_SESSION_TIMEOUT_SECONDS:
        raise ClickHouseError.named(
            374,
            "INVALID_SESSION_TIMEOUT",
            f"Session timeout '{text}' is larger than max_session_timeout: {MAX_SESSION_TIMEOUT_SECONDS}. "
            "Maximum session timeout could be modified in configuration file.",
        )
    return SessionRequest(session_id, timeout, _flag(parameters, "session_check"), _flag(parameters, "close_session"))


def _query_id(text: str) -> str:
    if not text.isprintable():
        raise ClickHouseError.named(36, "BAD_ARGUMENTS", "The query_id must not contain control characters.")
    return text or str(uuid.uuid4())


def _format(name: str) -> str:
    if not re.fullmatch(r"\w+", name, re.ASCII):
        raise ClickHouseError.named(73, "UNKNOWN_FORMAT", f"Unknown format {name}.")
    return name


def _query_parameters(parameters: Mapping[str, str]) -> dict[str, str]:
    values = {name.removeprefix("param_"): value for name, value in parameters.items() if name.startswith("param_")}
    for name in values:
        if not re.fullmatch(r"\w+", name, re.ASCII):
            raise ClickHouseError.named(457, "BAD_QUERY_PARAMETER", f"Query parameter '{name}' is not an identifier.")
    return values


def _settings(parameters: Mapping[str, str]) -> dict[str, str]:
    settings = {
        name: value
        for name, value in parameters.items()
        if name not in _PROTOCOL_PARAMETERS and not name.startswith("param_")
    }
    for name in settings:
        if not _SETTING_NAME.fullmatch(name):
            raise ClickHouseError.named(115, "UNKNOWN_SETTING", f"Unknown setting '{name}'.")
    return settings


def _flag(parameters: Mapping[str, str], name: str) -> bool:
    value = parameters.get(name, "0").lower()
    if value in ("1", "true"):
        return True
    if value in ("0", "false", ""):
        return False
    raise ClickHouseError.named(
        467, "CANNOT_PARSE_BOOL", f"Cannot parse bool from string '{value}' for parameter {name}."
    )


def _natural(parameters: Mapping[str, str], name: str, default: int, most: int) -> int:
    value = parameters.get(name, "")
    if not value:
        return default
    if not value.isascii() or not value.isdigit():
        raise ClickHouseError.named(72, "CANNOT_PARSE_NUMBER", f"Cannot parse parameter {name}: '{value}'.")
    return min(int(value), most)


def _request_coding(header: str) -> str | None:
    coding = header.strip().lower()
    if coding in ("", "identity"):
        return None
    if coding not in CODINGS:
        raise ClickHouseError.named(
            48, "NOT_IMPLEMENTED", f"Unknown compression method '{coding}'. Only {', '.join(CODINGS)} are supported."
        )
    return coding


def _response_coding(header: str) -> str | None:
    """The first coding of `CODINGS`, which are ordered by what they cost, that the client takes."""
    accepted = set()
    for part in header.split(","):
        coding, _, quality = part.strip().lower().partition(";")
        if re.sub(r"\s", "", quality) not in ("q=0", "q=0.0"):
            accepted.add(coding.strip())
    return next((coding for coding in CODINGS if coding in accepted), None)
