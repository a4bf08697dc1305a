"""Launches of the CUDA kernels for the emulator, as the host code makes them for a GPU."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cuda_emulator import At, Launch
from metro_fast.experts.adapters.tensors import RawTensor
from metro_fast.ops.cuda.pieces import SEGMENT

NO_ROW = np.uint32(2**32 - 1)
UNPACKED = {"f32": np.dtype(np.float32), "f16": np.dtype(np.float16), "bf16": np.dtype(np.uint16)}


@dataclass(frozen=True)
class Piece:
    """A segment of a block, and the place of an output that it goes to.

    Attributes:
        block: Number of the block.
        first: First trit.
        count: Trits.
        output: Number of the output.
        place: Its first element there.
        scale: Value of a trit of +1.
        mode: 0 write, 1 add, 2 values.
        others: With mode 2: the values of -1 and 0; `scale` is that of +1.
    """

    block: int
    first: int
    count: int
    output: int
    place: int
    scale: float
    mode: int = 0
    others: tuple[float, float] = (0.0, 0.0)


def unpack_flat(packed: NDArray[np.uint8], count: int, scale: float, name: str) -> Launch:
    """One block to one array; the host does not read the block."""
    out = np.full(count, 7, UNPACKED[name])
    segment = np.zeros(1, SEGMENT)
    segment["count"], segment["plus"] = count, scale
    # The number of streams at the smallest S, 512.
    works = -(-count // (64 * 512))
    return Launch(
        f"unpack_{name}",
        blocks=-(-works // 4),
        threads=128,
        buffers=[packed, np.array([0, packed.nbytes], np.uint64), segment, out, flags()[:1]],
        pointers=[(1, 0, At(0)), (2, 0, At(3))],
        arguments=[At(1), At(2), None, works, At(4)],
    )


def unpack_many(
    blocks: Sequence[NDArray[np.uint8]],
    pieces: Sequence[Piece],
    outputs: Sequence[NDArray[Any]],
    name: str,
) -> Launch:
    """All pieces of all blocks in one launch; its buffers begin with the blocks and the outputs."""
    pieces = sorted(pieces, key=lambda piece: (piece.block, piece.first))
    first_output, table = len(blocks), len(blocks) + len(outputs)
    addresses = np.array([[0, block.nbytes] for block in blocks], np.uint64)
    segments = np.zeros(len(pieces), SEGMENT)
    works, pointers = [], [(table, 16 * i, At(i)) for i in range(len(blocks))]
    for i, piece in enumerate(pieces):
        segments[i] = (0, piece.first, piece.count, piece.scale, piece.mode, *piece.others)
        offset = piece.place * outputs[piece.output].itemsize
        pointers.append((table + 1, SEGMENT.itemsize * i, At(first_output + piece.output, offset)))
    for number, block in enumerate(blocks):
        mine = [i for i, piece in enumerate(pieces) if piece.block == number]
        steps, streams = 1 << int(block[5]), int(block[24:28].view(np.uint32)[0])
        for stream in range(streams):
            begin, end = 64 * steps * stream, 64 * steps * (stream + 1)
            touch = [
                i
                for i in mine
                if pieces[i].first < end and pieces[i].first + pieces[i].count > begin
            ]
            works.append((number, stream, *((touch[0], touch[-1] + 1) if touch else (0, 0))))
    last = [addresses, segments, np.array(works, np.uint32).reshape(-1, 4), flags()[:1]]
    return Launch(
        f"unpack_{name}",
        blocks=-(-len(works) // 4),
        threads=128,
        buffers=[*blocks, *outputs, *last],
        pointers=pointers,
        arguments=[At(table), At(table + 1), At(table + 2), len(works), At(table + 3)],
    )


def flags() -> NDArray[np.uint32]:
    """Cleared flags: no error, and no row with one."""
    return np.array([0, NO_ROW], np.uint32)


def bits_of(values: NDArray[np.floating], name: str) -> NDArray[Any]:
    """Values in a format that a kernel reads, rounded to nearest even; bfloat16 as bits."""
    return RawTensor.rounded(np.ascontiguousarray(values, np.float32), name.upper()).data


def floats_of(values: NDArray[Any], name: str) -> NDArray[np.float32]:
    """The values that a kernel wrote, as float32."""
    return RawTensor(name.upper(), values).float32()
