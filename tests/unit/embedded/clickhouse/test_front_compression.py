from __future__ import annotations

import gzip
import zlib

import lz4.frame
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from embedded.clickhouse.compression import (
    CODINGS,
    PIECE_BYTES,
    BlockDecoder,
    BlockEncoder,
    Decoder,
    FrameDecoder,
    encoder,
)
from embedded.clickhouse.errors import ClickHouseError

PACK = {"gzip": gzip.compress, "deflate": zlib.compress, "lz4": lz4.frame.compress, "zstd": zstd.compress}


def decoded(decoder: Decoder, data: bytes, step: int) -> bytes:
    pieces = [piece for i in range(0, len(data), step) for piece in decoder.decode(data[i : i + step])]
    decoder.finish()
    return b"".join(pieces)


@pytest.mark.parametrize("coding", CODINGS)
@given(parts=st.lists(st.binary(max_size=2000), min_size=1, max_size=5), step=st.integers(1, 700))
def test_what_is_encoded_is_decoded_however_it_is_cut(coding: str, parts: list[bytes], step: int) -> None:
    coder = encoder(coding)
    packed = b"".join(coder.encode(part) for part in parts) + coder.finish()
    assert decoded(FrameDecoder(coding), packed, step) == b"".join(parts)


@pytest.mark.parametrize("coding", CODINGS)
def test_frames_that_follow_one_another_are_one_body(coding: str) -> None:
    assert decoded(FrameDecoder(coding), PACK[coding](b"one ") + PACK[coding](b"two"), 5) == b"one two"


@pytest.mark.parametrize("coding", CODINGS)
def test_a_small_body_that_holds_much_comes_in_bounded_pieces(coding: str) -> None:
    packed = PACK[coding](bytes(20 * PIECE_BYTES))
    sizes = [len(piece) for piece in FrameDecoder(coding).decode(packed)]
    assert sum(sizes) == 20 * PIECE_BYTES
    assert max(sizes) <= PIECE_BYTES


@pytest.mark.parametrize("coding", CODINGS)
def test_a_body_that_is_broken_or_cut_off_is_refused(coding: str) -> None:
    with pytest.raises(ClickHouseError) as broken:
        decoded(FrameDecoder(coding), b"\x00 not compressed", 100)
    assert broken.value.code == 271
    with pytest.raises(ClickHouseError, match="ends in the middle"):
        decoded(FrameDecoder(coding), PACK[coding](b"x" * 1000)[:-3], 100)


@given(data=st.binary(max_size=5000), step=st.integers(1, 700))
def test_clickhouses_blocks_are_decoded_however_they_are_cut(data: bytes, step: int) -> None:
    assert decoded(BlockDecoder(), BlockEncoder().encode(data), step) == data


def test_a_block_is_refused_if_any_byte_of_it_is_changed() -> None:
    block = BlockEncoder().encode(b"gyregyre")
    for i in range(len(block)):
        damaged = bytearray(block)
        damaged[i] ^= 1
        with pytest.raises(ClickHouseError):
            decoded(BlockDecoder(), bytes(damaged), 1000)
