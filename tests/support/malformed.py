"""Files that a reader of strangers' weights has to refuse, and a few odd ones that are whole."""

import json
import struct
from typing import Any

import numpy as np

PICKLE_THAT_RUNS = b"cposix\nsystem\n(S'true'\ntR."
"""Protocol 0, written by hand: a careless loader calls os.system("true")."""


def safetensors(
    header: dict[str, Any] | bytes, data: bytes = b"", length: int | None = None
) -> bytes:
    """A safetensors file of this header and data; `length` is a header length that may be wrong."""
    text = (
        header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    )
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def plain_adapter(count: int = 60_000) -> bytes:
    """A whole LoRA file as PEFT writes it: two factors of `count` float32 values each."""
    names = [f"base_model.model.q.lora_{x}.weight" for x in "AB"]
    header = {
        name: {"dtype": "F32", "shape": shape, "data_offsets": [4 * count * i, 4 * count * (i + 1)]}
        for i, (name, shape) in enumerate(
            zip(names, ([4, count // 4], [count // 4, 4]), strict=True)
        )
    }
    values = np.random.default_rng(0).standard_normal(2 * count).astype("<f4")
    return safetensors(header, values.tobytes())


TRUNCATED_ADAPTER = plain_adapter()[:200_000]


def _tensor(dtype: str, shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


SAFETENSORS_CASES: dict[str, bytes] = {
    # Whole files without a floating-point tensor, or with one that cannot be an expert.
    "a scalar": safetensors({"test": _tensor("I32", [], 0, 4)}, bytes(4)),
    "a matrix": safetensors({"test": _tensor("I32", [2, 2], 0, 16)}, bytes(16)),
    "a tensor of no elements": safetensors({"test": _tensor("I32", [2, 0], 0, 0)}),
    "white space after the header": safetensors(b"{}\r \t\n"),
    "an empty header": safetensors({}),
    "NaN and infinities": safetensors(
        {"a": _tensor("F32", [4], 0, 16)}, np.float32([np.nan, np.inf, -np.inf, 0]).tobytes()
    ),
    # Damaged files.
    "two bytes short": safetensors({"test": _tensor("I32", [2, 2], 0, 16)}, bytes(14)),
    "no bytes": b"",
    "a header that is not UTF-8": safetensors(b"\xff"),
    "a size that overflows": safetensors(
        {"test": _tensor("I32", [2, (1 << 64) - 2], 0, 16)}, bytes(16)
    ),
    "a header length beyond the end": safetensors(
        {"weight": _tensor("F32", [2, 2], 0, 16)}, bytes(16), length=1000
    ),
    "a hole between tensors": safetensors(
        {"a": _tensor("F32", [1], 0, 4), "b": _tensor("F32", [1], 8, 12)}, bytes(12)
    ),
    "an unknown dtype": safetensors({"a": _tensor("TRIT", [1], 0, 1)}, bytes(1)),
    "metadata that is not text": safetensors(
        {"__metadata__": {"n": 1}, "a": _tensor("F32", [1], 0, 4)}, bytes(4)
    ),
}
