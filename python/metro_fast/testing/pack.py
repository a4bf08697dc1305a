"""Reference of `ops.pack`: the block of docs/expert-format.md, section 4, written from the page."""

import struct

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
