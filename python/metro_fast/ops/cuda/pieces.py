"""Pieces of packed blocks to places of device memory in one launch: what the kernels read."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from metro_fast import _core
from metro_fast.errors import MetroFastError

__all__ = ["Piece", "Tables", "tables_of"]

MODE_WRITE, MODE_ADD, MODE_VALUES = 0, 1, 2
"""As in cuda/writer.cuh."""

SEGMENT = np.dtype(
    [
        ("out", "<u8"),
        ("first", "<u8"),
        ("count", "<u8"),
        ("plus", "<f4"),
        ("mode", "<u4"),
        ("minus", "<f4"),
        ("zero", "<f4"),
    ]
)
"""As in cuda/writer.cuh."""


class Piece(NamedTuple):
    """A tensor of a block and where its values go.

    Attributes:
        first: Its first trit in the block.
        trits: How many.
        out: Address of its first element; elements lie side by side.
        minus: Value of -1.
        zero: Value of 0.
        plus: Value of +1.
        add: Add the values to what is there, where a trit is not 0.
    """

    first: int
    trits: int
    out: int
    minus: float
    zero: float
    plus: float
    add: bool = False


class Tables(NamedTuple):
    """What `unpack_{f32,f16,bf16}` reads of one block, but for the block's own address.

    Attributes:
        segments: uint8, 40 bytes a piece.
        works: uint8, 16 bytes a stream.
        streams: Streams of the block.
    """

    segments: NDArray[np.uint8]
    works: NDArray[np.uint8]
    streams: int


def tables_of(block: NDArray[np.uint8], pieces: Sequence[Piece]) -> Tables:
    """The tables of a block.

    Args:
        block: uint8, a packed block in host memory.
        pieces: Not overlapping; in any order.

    Raises:
        FormatError: If the block is damaged.
        MetroFastError: If pieces overlap, or values to be added are not those of -s, 0 and s.

    Example:
        >>> from metro_fast.ops import pack
        >>> tables = tables_of(pack(np.zeros(70_000, np.int8)), [Piece(0, 64, 0, -0.5, 0.0, 0.5)])
        >>> tables.streams, tables.segments.size, tables.works.size
        (1, 40, 16)
    """
    rows, above = [], 0
    for piece in sorted(pieces):
        if piece.first < above:
            raise MetroFastError(
                f"a piece starts at trit {piece.first}, before one ends at {above}"
            )
        above = piece.first + piece.trits
        symmetric = piece.zero == 0 and piece.minus == -piece.plus
        if piece.add and not symmetric:
            raise MetroFastError(f"{piece} adds other values than -s, 0 and s")
        mode = MODE_ADD if piece.add else MODE_WRITE if symmetric else MODE_VALUES
        head = (piece.out, piece.first, piece.trits)
        rows.append((*head, piece.plus, mode, piece.minus, piece.zero))
    segments = np.array(rows, SEGMENT)
    count, _, steps = _core.block_info(block)
    length = 64 * steps
    streams = -(-count // length)
    begins = length * np.arange(streams, dtype=np.uint64)
    works = np.zeros((streams, 4), "<u4")
    works[:, 1] = np.arange(streams)
    # The segments that end behind a stream's begin, and those that begin before its end.
    works[:, 2] = np.searchsorted(segments["first"] + segments["count"], begins, side="right")
    works[:, 3] = np.searchsorted(segments["first"], begins + np.uint64(length), side="left")
    return Tables(segments.view(np.uint8), works.view(np.uint8).reshape(-1), streams)
