"""Errors that CUDA kernels flag, raised with the messages of the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from metro_fast._extras import require
from metro_fast.errors import FormatError, MetroFastError

if TYPE_CHECKING:
    import torch

__all__ = ["check_once", "flags_of", "is_later", "raise_flagged"]

_BLOCK = {
    1: "its header is damaged or not that of version 1",
    2: "its index is damaged",
    3: "a T4-rANS stream is damaged",
    4: "a bitmask stream is damaged",
    5: "a stream does not have as many nonzeros as its index says: damaged",
    6: "a stream has a nonzero past its end: damaged",
}
_ROW = {
    16: "logits has NaN or inf at row {row}, expected finite numbers or -inf",
    17: (
        "logits has nothing but -inf at row {row}, expected at least one finite number of a token "
        "that may be drawn"
    ),
    18: "sample_ids is negative at row {row}, expected 0 or more",
    19: "positions is out of range at row {row}, expected 0 to 2^32 - 1",
    20: "seed or epoch is negative, expected 0 to 2^63 - 1",
    21: "forbidden or excluded is outside the vocabulary at row {row}, expected token ids",
    32: "masked_positions is out of range or not ascending at index {row}",
    33: "masked_positions is at padding at index {row}",
    34: "sampled is negative at index {row}, expected token ids",
    48: "expert_of_row or the rank of its expert is out of range at row {row}",
}
"""The messages for the codes of cuda/flags.cuh."""

_buffers: dict[torch.device, torch.Tensor] = {}
_later: ContextVar[bool] = ContextVar("_later", default=False)


def flags_of(device: torch.device) -> torch.Tensor:
    """Return the flags that all launches on a device share: int32 [2], a code and the lowest row.

    Args:
        device: A `torch.device`.
    """
    if device not in _buffers:
        torch = require("torch", "torch")
        # Read as u32: code 0, which means no error, and the largest row.
        _buffers[device] = torch.tensor([0, -1], dtype=torch.int32, device=device)
    return _buffers[device]


def is_later() -> bool:
    """Whether the caller is inside `check_once`."""
    return _later.get()


@contextmanager
def check_once(device: torch.device | str) -> Iterator[None]:
    """Check for errors once at the end of a `with` block, and not after each op.

    Inside the block, ops do not wait for the device. Until the end a row with an error has the
    token -1, and values decoded from a damaged block must not be used. If the block itself raises,
    that error is seen, and the flags are left for the next check. On the CPU each op raises
    immediately, as usual.

    Args:
        device: A `torch.device` or its name: `"cuda"`.

    Raises:
        FormatError: As for `raise_flagged`.
        MetroFastError: As for `raise_flagged`.

    Example:
        >>> with check_once("cpu"):
        ...     pass
    """
    token = _later.set(True)
    try:
        yield
    finally:
        _later.reset(token)
    raise_flagged(device)


def raise_flagged(device: torch.device | str) -> None:
    """Raise an error if launches on a device have flagged one since the last call.

    This waits for the device. The ops call it themselves, except in a CUDA graph and in a block of
    `check_once`. After replaying a graph, call it to check for errors.

    Args:
        device: A `torch.device` or its name: `"cuda"`.

    Raises:
        FormatError: If a packed block was damaged.
        MetroFastError: If logits, ids or positions were outside their domains; the message
            gives the row.

    Example:
        >>> raise_flagged("cpu")
    """
    torch = require("torch", "torch")
    place = torch.device(device)
    if place.type == "cuda" and place.index is None:
        place = torch.device("cuda", torch.cuda.current_device())
    if place not in _buffers:
        return
    code, row = _buffers[place].tolist()
    if code == 0:
        return
    _buffers[place].copy_(torch.tensor([0, -1], dtype=torch.int32))
    if code in _BLOCK:
        raise FormatError(f"packed block: {_BLOCK[code]}")
    if code == 7:
        raise MetroFastError("count is not the number of trits that packed holds")
    raise MetroFastError(_ROW[code].format(row=row % 2**32))
