"""The tables for decoding pieces of packed blocks to device memory in one launch."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from metro_fast import _core
from metro_fast.errors import MetroFastError

__all__ = ["Piece", "Tables", "tables_of"]

MODE_WRITE, MODE_ADD, MODE_VALUES = 0, 1, 2
"""The modes of cuda/writer.cuh."""

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
"""`Segment` of cuda/writer.cuh."""


class Piece(NamedTuple):
    """A tensor of a block, and the destination of its values.

    Attributes:
        first: Index of its first trit in the block.
        trits: Number of trits.
        out: Address of its first element; the elements are contiguous.
        minus: Value of -1.
        zero: Value of 0.
        plus: Value of +1.
        add: Whether to add the values to the elements instead of overwriting them. Elements whose
            trits are 0 stay unchanged.
    """

    first: int
    trits: int
    out: int
    minus: float
    zero: float
    plus: float
    add: bool = False

    def __repr__(self) -> str:
        mode = "added to" if self.add else "written to"
        values = f"{self.minus:g}, {self.zero:g}, {self.plus:g}"
        end = self.first + self.trits
        return f"<Piece of trits {self.first} to {end}: {values} {mode} {self.out:#x}>"


class Tables(NamedTuple):
    """The tables that `unpack_{f32,f16,bf16}` reads for one block, except the address of the block.

    Attributes:
        segments: uint8, 40 bytes for each piece.
        works: uint8, 16 bytes for each stream.
        streams: Number of streams of the block.
    """

    segments: NDArray[np.uint8]
    works: NDArray[np.uint8]
    streams: int

    def __repr__(self) -> str:
        pieces = self.segments.size // SEGMENT.itemsize
        return f"<Tables of {pieces} pieces in {self.streams} streams>"


def tables_of(block: NDArray[np.uint8], pieces: Sequence[Piece]) -> Tables:
    """Make the tables for some pieces of a block.

    Args:
        block: uint8, a packed block in host memory.
        pieces: The pieces, which must not overlap, in any order.

    Raises:
        FormatError: If the block is damaged.
        MetroFastError: If pieces overlap, or the values of a piece that is added are not -s, 0
            and s.

    Example:
        >>> from metro_fast.ops import pack
        >>> tables = tables_of(pack(np.zeros(70_000, np.int8)), [Piece(0, 64, 0, -0.5, 0.0, 0.5)])
        >>> tables
        <Tables of 1 pieces in 1 streams>
        >>> tables.streams, tables.segments.size, tables.works.size
        (1, 40, 16)
    """
    rows, end = [], 0
    for piece in sorted(pieces):
        if piece.first < end:
            raise MetroFastError(
                f"a piece starts at trit {piece.first}, before one ends at {end}: "
                "pieces must not overlap"
            )
        end = piece.first + piece.trits
        symmetric = piece.zero == 0 and piece.minus == -piece.plus
        if piece.add and not symmetric:
            raise MetroFastError(f"{piece} adds other values than -s, 0 and s: write them instead")
        mode = MODE_ADD if piece.add else MODE_WRITE if symmetric else MODE_VALUES
        place = (piece.out, piece.first, piece.trits)
        rows.append((*place, piece.plus, mode, piece.minus, piece.zero))
    segments = np.array(rows, SEGMENT)
    count, _, steps = _core.block_info(block)
    length = 64 * steps
    streams = -(-count // length)
    begins = length * np.arange(streams, dtype=np.uint64)
    works = np.zeros((streams, 4), "<u4")
    works[:, 1] = np.arange(streams)
    # A stream overlaps the segments that end after it begins and begin before it ends.
    works[:, 2] = np.searchsorted(segments["first"] + segments["count"], begins, side="right")
    works[:, 3] = np.searchsorted(segments["first"], begins + np.uint64(length), side="left")
    return Tables(segments.view(np.uint8), works.view(np.uint8).reshape(-1), streams)
