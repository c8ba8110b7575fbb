"""Compressed bodies, both ways, a piece at a time: HTTP's content codings and ClickHouse's own blocks.

No piece that is handed on is larger than `PIECE_BYTES`, whatever the compressed data claims to hold.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

import lz4.block
import lz4.frame
from backports import zstd
from clickhouse_cityhash.cityhash import CityHash128  # type: ignore[import-untyped]  # compiled

from embedded.clickhouse.errors import ClickHouseError

PIECE_BYTES = 1 << 20

# What a block of ClickHouse's native compression may claim to hold; ClickHouse's own limit is 1 GiB.
_MAX_BLOCK_BYTES = 128 << 20
_CHECKSUM_BYTES = 16
_BLOCK_HEADER = struct.Struct("<BII")
_LZ4, _ZSTD, _NONE = 0x82, 0x90, 0x02


class Decoder(Protocol):
    """Undoes a compression."""

    def decode(self, data: bytes) -> Iterator[bytes]:
        """Yields what `data` completes; raises ClickHouseError where it isn't what it should be."""
        ...

    def finish(self) -> None:
        """Raises ClickHouseError if the compressed data stopped in the middle."""
        ...


class Encoder(Protocol):
    """Applies a compression."""

    def encode(self, data: bytes) -> bytes:
        """Takes more data; what comes out may lag behind."""
        ...

    def finish(self) -> bytes:
        """Returns the end of the compressed data."""
        ...


class _BoundedDecompressor(Protocol):
    """What the standard library's decompressor objects have in common, zlib's aside."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes | None: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Zlib:
    """zlib's decompressor with the interface of the others."""

    def __init__(self, window_bits: int) -> None:
        self._inner = zlib.decompressobj(window_bits)
        self.needs_input = True

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        out = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
        self.needs_input = not self._inner.unconsumed_tail
        return out

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data


class FrameDecoder:
    """A content coding; several frames one after the other are one body, as clickhouse-connect writes them."""

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._decompressor: _BoundedDecompressor | None = None

    def decode(self, data: bytes) -> Iterator[bytes]:
        """See Decoder."""
        while data or (self._decompressor is not None and not self._decompressor.needs_input):
            if self._decompressor is None:
                self._decompressor = _DECOMPRESSORS[self._coding]()
            try:
                piece = self._decompressor.decompress(data, PIECE_BYTES)
            except (zlib.error, zstd.ZstdError, RuntimeError, EOFError) as exc:
                raise _cannot_decompress(f"the body is not valid {self._coding}: {exc}") from exc
            data = b""
            if self._decompressor.eof:
                data = self._decompressor.unused_data or b""
                self._decompressor = None
            if piece:
                yield piece

    def finish(self) -> None:
        """See Decoder."""
        if self._decompressor is not None:
            raise _cannot_decompress(f"the {self._coding} body ends in the middle")


class BlockDecoder:
    """ClickHouse's native compression: checksum, method, sizes, data."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def decode(self, data: bytes) -> Iterator[bytes]:
        """See Decoder."""
        self._buffer += data
        while len(self._buffer) >= _CHECKSUM_BYTES + _BLOCK_HEADER.size:
            method, compressed_bytes, plain_bytes = _BLOCK_HEADER.unpack_from(self._buffer, _CHECKSUM_BYTES)
            if compressed_bytes < _BLOCK_HEADER.size or max(compressed_bytes, plain_bytes) > _MAX_BLOCK_BYTES:
                raise _cannot_decompress(f"a block claims {compressed_bytes} bytes for {plain_bytes}")
            end = _CHECKSUM_BYTES + compressed_bytes
            if len(self._buffer) < end:
                return
            block = bytes(self._buffer[_CHECKSUM_BYTES:end])
            if self._buffer[:_CHECKSUM_BYTES] != _checksum(block):
                raise ClickHouseError.named(40, "CHECKSUM_DOESNT_MATCH", "Checksum doesn't match: corrupted data.")
            del self._buffer[:end]
            yield _plain(method, block[_BLOCK_HEADER.size :], plain_bytes)

    def finish(self) -> None:
        """See Decoder."""
        if self._buffer:
            raise _cannot_decompress("the last block is incomplete")


class _ZlibEncoder:
    def __init__(self, window_bits: int) -> None:
        self._inner = zlib.compressobj(level=3, wbits=window_bits)

    def encode(self, data: bytes) -> bytes:
        return self._inner.compress(data)

    def finish(self) -> bytes:
        return self._inner.flush()


class _Lz4Encoder:
    def __init__(self) -> None:
        self._inner = lz4.frame.LZ4FrameCompressor()
        self._pending = bytes(self._inner.begin())

    def encode(self, data: bytes) -> bytes:
        out = self._pending + bytes(self._inner.compress(data))
        self._pending = b""
        return out

    def finish(self) -> bytes:
        return self._pending + bytes(self._inner.flush())


class _ZstdEncoder:
    def __init__(self) -> None:
        self._inner = zstd.ZstdCompressor(level=1)

    def encode(self, data: bytes) -> bytes:
        return self._inner.compress(data)

    def finish(self) -> bytes:
        return self._inner.flush()


class BlockEncoder:
    """ClickHouse's native compression, LZ4."""

    def encode(self, data: bytes) -> bytes:
        """See Encoder."""
        return b"".join(_block(data[i : i + PIECE_BYTES]) for i in range(0, len(data), PIECE_BYTES))

    def finish(self) -> bytes:
        """See Encoder."""
        return b""


_DECOMPRESSORS: dict[str, Callable[[], _BoundedDecompressor]] = {
    "lz4": lz4.frame.LZ4FrameDecompressor,
    "zstd": zstd.ZstdDecompressor,
    "gzip": lambda: _Zlib(zlib.MAX_WBITS | 16),
    "deflate": lambda: _Zlib(zlib.MAX_WBITS),
}
_ENCODERS: dict[str, Callable[[], Encoder]] = {
    "lz4": _Lz4Encoder,
    "zstd": _ZstdEncoder,
    "gzip": lambda: _ZlibEncoder(zlib.MAX_WBITS | 16),
    "deflate": lambda: _ZlibEncoder(zlib.MAX_WBITS),
}
CODINGS = tuple(_ENCODERS)


def encoder(coding: str) -> Encoder:
    """Returns a new encoder for one of `CODINGS`."""
    return _ENCODERS[coding]()


def _cannot_decompress(why: str) -> ClickHouseError:
    return ClickHouseError.named(271, "CANNOT_DECOMPRESS", f"Cannot decompress: {why}.")


def _checksum(block: bytes) -> bytes:
    # CityHash 1.0.2, which ClickHouse froze; its first half is the upper one of the number that the package returns.
    number: int = CityHash128(block)
    return struct.pack("<QQ", number >> 64, number & 0xFFFFFFFFFFFFFFFF)


def _block(data: bytes) -> bytes:
    compressed: bytes = lz4.block.compress(data, store_size=False)
    block = _BLOCK_HEADER.pack(_LZ4, _BLOCK_HEADER.size + len(compressed), len(data)) + compressed
    return _checksum(block) + block


def _plain(method: int, compressed: bytes, plain_bytes: int) -> bytes:
    try:
        if method == _LZ4:
            return bytes(lz4.block.decompress(compressed, uncompressed_size=plain_bytes))
        if method == _ZSTD:
            return bytes(zstd.ZstdDecompressor().decompress(compressed, plain_bytes))
        if method == _NONE:
            return compressed
    except (lz4.block.LZ4BlockError, zstd.ZstdError) as exc:
        raise _cannot_decompress(f"a block is corrupt: {exc}") from exc
    raise ClickHouseError.named(89, "UNKNOWN_COMPRESSION_METHOD", f"Unknown compression method with code {method}.")
