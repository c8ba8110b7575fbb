"""Whether files of weights are whole, by what their headers say of their length; the weights are not read."""

import json
import struct
from pathlib import Path
from typing import BinaryIO

import gguf

_HEADER_BYTES = 100 * 2**20
# GGUF, version 3: the bytes of each type of value that has a fixed length.
_FIXED = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY, _UINT32 = 8, 9, 4
_ALIGNMENT = 32


def damage(path: Path) -> str:
    """Return what is wrong with a file of weights, or of JSON; empty: nothing that its form shows."""
    try:
        if path.suffix == ".safetensors":
            wanted = _safetensors_bytes(path)
        elif path.suffix == ".gguf":
            wanted = _gguf_bytes(path)
        else:
            json.loads(path.read_text())
            return ""
    except FileNotFoundError:
        return "it is missing"
    except (OSError, ValueError, LookupError, TypeError, struct.error):
        return f"it does not begin as {path.suffix.removeprefix('.')} does"
    size = path.stat().st_size
    return "" if size >= wanted else f"it has {size:,} bytes, wanted {wanted:,}"


def _safetensors_bytes(path: Path) -> int:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _HEADER_BYTES:
            raise ValueError("no header")
        header = json.loads(file.read(length))
    ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
    return 8 + length + int(max(ends))


def _gguf_bytes(path: Path) -> int:
    with path.open("rb") as file:
        magic, version, tensors, values = struct.unpack("<4sIQQ", file.read(24))
        if magic != b"GGUF" or version not in (2, 3) or not tensors:
            raise ValueError("no GGUF")
        alignment = _ALIGNMENT
        for _ in range(values):
            name, kind = _string(file), _number(file, 4)
            if name == b"general.alignment" and kind == _UINT32:
                alignment = _number(file, 4)
            else:
                _skip(file, kind)
        end = 0
        for _ in range(tensors):
            _string(file)
            elements = 1
            for _ in range(_number(file, 4)):
                elements *= _number(file, 8)
            block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(_number(file, 4))]
            end = max(end, _number(file, 8) + elements // block * size)
        return -(-file.tell() // alignment) * alignment + end


def _number(file: BinaryIO, size: int) -> int:
    read = file.read(size)
    if len(read) < size:
        raise ValueError("it ends in its header")
    return int.from_bytes(read, "little")


def _string(file: BinaryIO) -> bytes:
    return file.read(_number(file, 8))


def _skip(file: BinaryIO, kind: int) -> None:
    if kind == _STRING:
        _string(file)
    elif kind == _ARRAY:
        of, count = _number(file, 4), _number(file, 8)
        if of in _FIXED:
            file.seek(_FIXED[of] * count, 1)
        else:
            for _ in range(count):
                _skip(file, of)
    else:
        file.seek(_FIXED[kind], 1)
