"""What the CUDA kernels found wrong, as the errors that the CPU raises."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from metro_fast._extras import require
from metro_fast.errors import FormatError, MetroFastError

__all__ = ["check_once", "flags_of", "is_later", "raise_flagged"]

_BLOCK = {
    1: "its header is damaged or not that of version 1",
    2: "its index is damaged",
    3: "a T4-rANS stream is damaged",
    4: "a bitmask stream is damaged",
    5: "a stream has not as many nonzeros as its index says: damaged",
    6: "a stream has a nonzero past its end: damaged",
}
_ROW = {
    16: "logits has NaN or inf at row {row}, expected finite numbers or -inf",
    17: "logits has nothing but -inf at row {row}, expected at least one finite number",
    18: "sample_ids is negative at row {row}, expected 0 or more",
    19: "positions is out of range at row {row}, expected 0 to 2^32 - 1",
    20: "seed or epoch is negative, expected 0 to 2^63 - 1",
    32: "masked_positions is out of range or not above the one before at index {row}",
    33: "masked_positions is at padding at index {row}",
    34: "sampled is negative at index {row}, expected token ids",
    48: "expert_of_row or the rank of its expert is out of range at row {row}",
}
"""By the codes of cuda/flags.cuh."""

_buffers: dict[Any, Any] = {}
_later: ContextVar[bool] = ContextVar("_later", default=False)


def flags_of(device: Any) -> Any:
    """The flags that all launches on a device share: int32 [2], a code and the lowest row.

    Args:
        device: A `torch.device`.
    """
    if device not in _buffers:
        torch = require("torch", "torch")
        # As u32: no code, and a row that every row is below.
        _buffers[device] = torch.tensor([0, -1], dtype=torch.int32, device=device)
    return _buffers[device]


def is_later() -> bool:
    """Whether the caller is inside of `check_once`."""
    return _later.get()


@contextmanager
def check_once(device: Any) -> Iterator[None]:
    """Let the ops of a block not wait for the device one by one: what they flag is raised after it.

    Until then a bad row has the token -1, and what was decoded of a damaged block is not to be
    used. If the block itself raises, its error is the one seen, and the flags are left for the
    next check. On the CPU each op raises at once, as ever.

    Args:
        device: A `torch.device`, or what makes one: `"cuda"`.

    Raises:
        FormatError: As `raise_flagged`.
        MetroFastError: As `raise_flagged`.

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


def raise_flagged(device: Any) -> None:
    """Raise what launches on a device have found wrong since the last call, if anything.

    Waits for the device. The ops call it themselves, except in a CUDA graph and in a block of
    `check_once`: after replays of a graph, call it when you want to know.

    Args:
        device: A `torch.device`, or what makes one: `"cuda"`.

    Raises:
        FormatError: If a packed block was damaged.
        MetroFastError: If logits, ids or positions were out of their domains; with the row.

    Example:
        >>> raise_flagged("cpu")
    """
    torch = require("torch", "torch")
    device = torch.device(device)
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())
    if device not in _buffers:
        return
    code, row = _buffers[device].tolist()
    if code == 0:
        return
    _buffers[device].copy_(torch.tensor([0, -1], dtype=torch.int32))
    if code in _BLOCK:
        raise FormatError(f"packed block: {_BLOCK[code]}")
    if code == 7:
        raise MetroFastError("count is not the number of trits that packed holds")
    raise MetroFastError(_ROW[code].format(row=row % 2**32))
