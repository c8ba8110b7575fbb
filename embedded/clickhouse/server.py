"""The HTTP side: what ClickHouse's own HTTP interface accepts and answers."""

from __future__ import annotations

import asyncio
import errno
import logging
import secrets
import string
import tempfile
from collections.abc import AsyncIterator

from aiohttp import BodyPartReader, web

from embedded.clickhouse.answer import Answer
from embedded.clickhouse.compression import (
    PIECE_BYTES,
    BlockDecoder,
    BlockEncoder,
    Decoder,
    Encoder,
    FrameDecoder,
    encoder,
)
from embedded.clickhouse.engine import Engine
from embedded.clickhouse.errors import ClickHouseError
from embedded.clickhouse.external import ExternalTable
from embedded.clickhouse.queries import Caller, Queries
from embedded.clickhouse.request import QueryRequest, parse_request
from embedded.clickhouse.users import Users

_log = logging.getLogger(__name__)

# ClickHouse takes URLs and header lines of 1 MiB, and BI tools put whole queries into them.
MAX_LINE_BYTES = 1 << 20
_MAX_FORM_BYTES = 64 << 20
_MAX_EXCEPTION_BYTES = 16 << 10
_TAG_ALPHABET = string.ascii_lowercase


class Front:
    """ClickHouse's HTTP interface over one engine."""

    def __init__(self, engine: Engine, queries: Queries, users: Users) -> None:
        self._engine = engine
        self._queries = queries
        self._users = users

    def application(self) -> web.Application:
        """The routes of a ClickHouse server."""
        app = web.Application()
        for path in ("/ping", "/replicas_status"):
            app.router.add_get(path, self._ok)
        for path in ("/", "/query"):
            for method in ("GET", "HEAD", "POST", "PUT"):
                app.router.add_route(method, path, self._query)
        app.router.add_route("*", "/{path:.*}", self._unknown_path)
        return app

    async def _ok(self, _: web.Request) -> web.Response:
        return web.Response(text="Ok.\n")

    async def _unknown_path(self, request: web.Request) -> web.Response:
        return web.Response(
            status=404,
            text=f"There is no handle {request.path}\n\nUse / or /ping for health checks.\n"
            "Or /replicas_status for more sophisticated health checks.\n"
            "Send queries from your program with POST method or GET /?query=...\n",
        )

    async def _query(self, http: web.Request) -> web.StreamResponse:
        if http.method in ("GET", "HEAD") and not http.query:
            return await self._ok(http)
        query: QueryRequest | None = None
        try:
            parameters, tables, body = await _parameters_and_body(http)
            query = parse_request(http.method, parameters, http.headers)
            caller = self._authenticate(query)
            pieces = _decoded(body, query)
            async with self._queries.run(query, caller, pieces, tables) as answer:
                return await self._respond(http, query, answer)
        except ClickHouseError as error:
            return await self._refuse(http, query, error)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            # Uploads and pipes are files of ours, which the engine knows nothing of.
            full = ClickHouseError.named(243, "NOT_ENOUGH_SPACE", "Not enough space on the disk for the query.")
            return await self._refuse(http, query, full)

    def _authenticate(self, query: QueryRequest) -> Caller:
        user = self._users.authenticate(query.credentials.user, query.credentials.password)
        return Caller(query.credentials.user, user.readonly)

    async def _respond(self, http: web.Request, query: QueryRequest, answer: Answer) -> web.StreamResponse:
        """Sends the answer. Its first part is held back, so that an early failure still gets its own status."""
        limit = None if query.wait_end_of_query else query.buffer_bytes
        with tempfile.SpooledTemporaryFile(max_size=max(query.buffer_bytes, PIECE_BYTES)) as held:
            ended = False
            while limit is None or held.tell() <= limit:
                piece = await anext(answer.pieces, None)
                if piece is None:
                    ended = True
                    break
                held.write(piece)
            headers = self._headers(query, answer)
            coder = _encoder(query)
            held_bytes = held.tell()
            held.seek(0)
            if ended and held_bytes <= max(query.buffer_bytes, PIECE_BYTES):
                content = held.read()
                if coder is not None and content:
                    content = await asyncio.to_thread(_encode_whole, coder, content)
                elif "Content-Encoding" in headers:
                    del headers["Content-Encoding"]
                return web.Response(body=content, headers=headers)
            response = web.StreamResponse(headers=headers)
            tag = "".join(secrets.choice(_TAG_ALPHABET) for _ in range(16))
            response.headers["X-ClickHouse-Exception-Tag"] = tag
            response.enable_chunked_encoding()
            await response.prepare(http)
            while piece := held.read(PIECE_BYTES):
                await _send(response, coder, piece)
        try:
            async for piece in answer.pieces:
                await _send(response, coder, piece)
        except ClickHouseError as error:
            await _send(response, coder, _exception_block(self._text(query, error), tag))
            if coder is not None:
                await response.write(coder.finish())
            # The body must not look complete: the connection is closed without the last chunk.
            if http.transport is not None:
                http.transport.close()
            return response
        if coder is not None:
            await response.write(await asyncio.to_thread(coder.finish))
        await response.write_eof()
        return response

    async def _refuse(self, http: web.Request, query: QueryRequest | None, error: ClickHouseError) -> web.Response:
        headers = {
            "X-ClickHouse-Exception-Code": str(error.code),
            "X-ClickHouse-Server-Display-Name": self._engine.display_name,
            "Content-Type": "text/plain; charset=UTF-8",
        }
        if query is not None:
            headers["X-ClickHouse-Query-Id"] = query.query_id
        if error.http_status == 401:
            headers["WWW-Authenticate"] = 'Basic realm="ClickHouse server HTTP API"'
        content = self._text(query, error)
        if query is not None and (coder := _encoder(query)) is not None:
            content = _encode_whole(coder, content)
            if query.response_coding is not None:
                headers["Content-Encoding"] = query.response_coding
        response = web.Response(status=error.http_status, body=content, headers=headers)
        if not http.content.at_eof():
            # What is left of the body won't be read, so this connection can't carry another request.
            response.force_close()
        return response

    def _headers(self, query: QueryRequest, answer: Answer) -> dict[str, str]:
        headers = {
            "Content-Type": self._engine.content_type_by_format.get(answer.format, "text/plain; charset=UTF-8"),
            "X-ClickHouse-Format": answer.format,
            "X-ClickHouse-Query-Id": query.query_id,
            "X-ClickHouse-Server-Display-Name": self._engine.display_name,
            "X-ClickHouse-Summary": answer.summary.header(),
            "X-ClickHouse-Timezone": query.settings.get("session_timezone") or self._engine.timezone,
        }
        if query.response_coding is not None:
            headers["Content-Encoding"] = query.response_coding
        return headers

    def _text(self, query: QueryRequest | None, error: ClickHouseError) -> bytes:
        text = error.text
        if query is not None:
            # To the engine every user is its `default`.
            text = text.replace("DB::Exception: default: ", f"DB::Exception: {query.credentials.user}: ", 1)
        return f"{text} (version {self._engine.version})\n".encode()


async def _parameters_and_body(
    http: web.Request,
) -> tuple[dict[str, str], list[ExternalTable], AsyncIterator[bytes]]:
    """Takes a request apart. A multipart form holds further parameters and external tables instead of a body."""
    parameters = dict(http.query)
    if not http.content_type.startswith("multipart/"):
        return parameters, [], http.content.iter_any()
    files: dict[str, bytes] = {}
    left = _MAX_FORM_BYTES
    async for part in await http.multipart():
        if not isinstance(part, BodyPartReader) or part.name is None:
            raise ClickHouseError.named(36, "BAD_ARGUMENTS", "Every part of a form must have a name.")
        content = bytearray()
        while chunk := await part.read_chunk(1 << 16):
            content += chunk
            left -= len(chunk)
            if left < 0:
                raise ClickHouseError.named(
                    229, "QUERY_IS_TOO_LARGE", f"A form may hold at most {_MAX_FORM_BYTES} bytes."
                )
        if part.filename is None:
            parameters[part.name] = content.decode(errors="surrogateescape")
        else:
            files[part.name] = bytes(content)
    return parameters, [_external_table(name, content, parameters) for name, content in files.items()], _no_body()


def _external_table(name: str, data: bytes, parameters: dict[str, str]) -> ExternalTable:
    structure = parameters.pop(f"{name}_structure", "")
    if not structure and (types := parameters.pop(f"{name}_types", "")):
        structure = ", ".join(f"_{i} {type_name}" for i, type_name in enumerate(types.split(","), 1))
    if not name.isidentifier() or not structure:
        raise ClickHouseError.named(
            36, "BAD_ARGUMENTS", f"External table {name!r} needs a name that is an identifier, and {name}_structure."
        )
    return ExternalTable(name, structure, parameters.pop(f"{name}_format", "TabSeparated"), data)


async def _no_body() -> AsyncIterator[bytes]:
    return
    yield


async def _decoded(body: AsyncIterator[bytes], query: QueryRequest) -> AsyncIterator[bytes]:
    """Undoes the body's encodings: the content coding outside, ClickHouse's blocks inside."""
    decoders: list[Decoder] = []
    if query.request_coding is not None:
        decoders.append(FrameDecoder(query.request_coding))
    if query.request_blocks:
        decoders.append(BlockDecoder())
    for decoder in decoders:
        body = _through(decoder, body)
    async for piece in body:
        yield piece


async def _through(decoder: Decoder, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for data in body:
        decoded = decoder.decode(data)
        while piece := await asyncio.to_thread(next, decoded, b""):
            yield piece
    decoder.finish()


def _encoder(query: QueryRequest) -> Encoder | None:
    if query.response_blocks:
        return BlockEncoder()
    return encoder(query.response_coding) if query.response_coding is not None else None


def _encode_whole(coder: Encoder, content: bytes) -> bytes:
    return coder.encode(content) + coder.finish()


async def _send(response: web.StreamResponse, coder: Encoder | None, piece: bytes) -> None:
    if coder is not None:
        piece = await asyncio.to_thread(coder.encode, piece)
    if piece:
        await response.write(piece)


def _exception_block(message: bytes, tag: str) -> bytes:
    """What ClickHouse writes into a body that has begun when its query fails; the tag was in the headers."""
    message = message[:_MAX_EXCEPTION_BYTES].rstrip()
    marker = b"__exception__"
    return b"\r\n%s\r\n%s\r\n%s\n%d %s\r\n%s\r\n" % (marker, tag.encode(), message, len(message), tag.encode(), marker)
