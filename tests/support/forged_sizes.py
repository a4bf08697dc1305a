"""Small expert files that promise huge tensors, for readers that must ask before they allocate."""

import json
import struct

import numpy as np

from metro_fast import _core

LOG_STEPS = 14


def zero_block(count: int) -> np.ndarray:
    """A packed block of `count` zero trits: 16 bytes for each million."""
    streams = -(-count // (64 << LOG_STEPS))
    index = struct.pack("<IIBBHI", 0, 0, 2, 0, 0, 0) * streams
    total = 32 + len(index) + 256
    header = struct.pack("<4sBBHQQI", b"MFT4", 1, LOG_STEPS, 0, count, total, streams)
    crc = _core.crc32c(np.frombuffer(header + index, np.uint8))
    return np.frombuffer(header + struct.pack("<I", crc) + index + bytes(256), np.uint8)


def manifest(shapes: dict[str, tuple[int, ...]], kind: str = "other") -> str:
    """The manifest of ternary tensors of these shapes, in one group."""
    tensors, start = [], 0
    for name, shape in sorted(shapes.items()):
        row = {"dtype": "F32", "group": 0, "initial": "zero", "name": name}
        tensors.append(row | {"shape": list(shape), "start": start})
        size = 0 if 0 in shape else int(np.prod(shape, dtype=object))
        start += -(-size // 32) * 32
    return json.dumps(
        {
            "alpha_rule": "fixed",
            "base": {"initial_crc32c": None, "model": None, "revision": None},
            "dense": [],
            "groups": [{"alpha": 1.0, "density": 0.1, "name": "global"}],
            "kind": kind,
            "scope": "global",
            "tensors": tensors,
            "version": 1,
        }
    )


def zero_expert(trits: int) -> np.ndarray:
    """The file of an expert of one tensor of zero trits, a multiple of 32: 33 kB for 2^31."""
    return _core.encode_expert(manifest({"w": (trits,)}), np.float32([1]), zero_block(trits), [])
