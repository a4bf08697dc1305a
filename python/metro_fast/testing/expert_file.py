"""Reference of reading an expert file, written from docs/expert-format.md."""

import json
import math
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metro_fast.testing import t4_rans
from metro_fast.testing.pack import crc32c
from metro_fast.testing.unpack import unpack


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
