"""Reference of the packed block and of the expert file, written from docs/expert-format.md."""

import json
import math
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metro_fast.testing import bitmask, t4_rans

_CRC_TABLE: list[int] = []
for _byte in range(256):
    for _ in range(8):
        _byte = _byte >> 1 ^ (0x82F63B78 if _byte & 1 else 0)
    _CRC_TABLE.append(_byte)


def crc32c(data: bytes) -> int:
    """CRC32C, byte by byte.

    Example:
        >>> hex(crc32c(b"123456789"))
        '0xe3069283'
    """
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def pack(
    trits: NDArray[np.int8], coding: str, steps: int, frequencies: t4_rans.Frequencies
) -> bytes:
    """A packed block (section 4)."""
    flat = trits.reshape(-1)
    index = payload = b""
    for start in range(0, flat.size, 64 * steps):
        part = flat[start : start + 64 * steps]
        nonzeros = int(np.count_nonzero(part))
        kind, density_class, data = 2, 0, b""
        if nonzeros:
            kind, data = 1, bitmask.encode(part)
            if coding == "t4" and t4_rans.plan(part, frequencies)[1] <= len(data):
                kind = 0
                data, density_class = t4_rans.encode(part, frequencies)
        index += struct.pack(
            "<IIBBHI", len(payload) // 16, nonzeros, kind, density_class, 0, crc32c(data)
        )
        payload += data
    total = 32 + len(index) + len(payload) + 256
    header = struct.pack(
        "<4sBBHQQI", b"MFT4", 1, steps.bit_length() - 1, 0, flat.size, total, len(index) // 16
    )
    return header + struct.pack("<I", crc32c(header + index)) + index + payload + bytes(256)


def unpack(block: bytes, frequencies: t4_rans.Frequencies) -> NDArray[np.int8]:
    """The trits of an undamaged block."""
    magic, version, log_steps, _, count, total, streams, crc = struct.unpack_from(
        "<4sBBHQQII", block
    )
    payload = 32 + 16 * streams
    if (magic, version, total) != (b"MFT4", 1, len(block)):
        raise ValueError("the header")
    if crc != crc32c(block[:28] + block[32:payload]):
        raise ValueError("the index")
    rows = [struct.unpack_from("<IIBBHI", block, 32 + 16 * i) for i in range(streams)]
    starts = [payload + 16 * row[0] for row in rows] + [len(block) - 256]
    parts = [np.zeros(0, np.int8)]
    for i, (_, nonzeros, kind, density_class, _, checksum) in enumerate(rows):
        data = block[starts[i] : starts[i + 1]]
        length = min(64 << log_steps, count - i * (64 << log_steps))
        if checksum != crc32c(data):
            raise ValueError("a stream")
        if kind == 0:
            trits = t4_rans.decode(data, density_class, length, frequencies)
        else:
            trits = bitmask.decode(data, length) if kind == 1 else np.zeros(length, np.int8)
        if np.count_nonzero(trits) != nonzeros:
            raise ValueError("nonzeros")
        parts.append(trits)
    return np.concatenate(parts)


def read_expert(file: bytes, frequencies: t4_rans.Frequencies) -> dict[str, NDArray[Any]]:
    """Values of an expert file's ternary tensors without given initial values, as float32."""
    (length,) = struct.unpack_from("<Q", file)
    header = json.loads(file[8 : 8 + length])

    def tensor(name: str) -> bytes:
        start, end = header[name]["data_offsets"]
        return file[8 + length + start : 8 + length + end]

    version, inflated, crc, _ = struct.unpack("<4I", tensor("compeft.head"))
    deflated, scales, block = (tensor(f"compeft.{n}") for n in ("manifest", "scales", "trits"))
    (streams,) = struct.unpack_from("<I", block, 24)
    covered = struct.pack("<2I", version, inflated) + deflated + scales + block[: 32 + 16 * streams]
    text = zlib.decompress(deflated, wbits=-15)
    if version != 1 or crc != crc32c(covered) or len(text) != inflated:
        raise ValueError("the head")
    trits = unpack(block, frequencies)
    values = {}
    for entry in json.loads(text)["tensors"]:
        size = math.prod(entry["shape"])
        part = trits[entry["start"] : entry["start"] + size].reshape(entry["shape"])
        scale = np.frombuffer(scales, "<f4")[entry["group"]]
        initial = np.float32(1 if entry["initial"] == "one" else 0)
        values[entry["name"]] = initial + scale * part
    return values
