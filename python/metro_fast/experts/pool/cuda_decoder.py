"""Decoding of experts on the GPU that the model is on; docs/cuda.md lists what ran on a GPU.

What the pool does after a failed decode has not run on a GPU yet, only on the kernels' emulator.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metro_fast._extras import require
from metro_fast.experts.expert import Expert
from metro_fast.experts.file.segments import Segments
from metro_fast.experts.pool.arena import Arena
from metro_fast.ops.cuda import kernels
from metro_fast.ops.cuda.pieces import Piece, tables_of

_LINE = 256
"""Alignment of the parts of a blob: a block needs 16 bytes, and torch allocates at 256."""


@dataclass
class PackedExpert:
    """An expert's tables and block in one blob, which takes one copy to the device.

    Attributes:
        blob: uint8, in pinned host memory or on the device.
        segments: Offset of the segments.
        works: Offset of the works.
        packed: Offset of the block.
        streams: Number of streams in the block.
        base: The blob's address on the device for which its first 16 bytes (the address and the
            length of the block) were written.
    """

    blob: Any
    segments: int
    works: int
    packed: int
    streams: int
    base: int


class CudaDecoder:
    """Decodes with one copy and one launch on a side stream, for which the caller's stream waits.

    Args:
        arena: The arena to decode into; its buffer is on the GPU.
        keep: `"device"` keeps the packed bytes on the GPU, `"host"` in pinned memory.

    Raises:
        CudaError: If CUDA is missing.
    """

    def __init__(self, arena: Arena, keep: str) -> None:
        self._torch = require("torch", "peft")
        self._arena = arena
        self._keep = keep
        self._device = arena.buffer.device
        self._staging = self._empty(0)
        self._scratch: Any = None  # experts of lower rank are decoded into it
        self._side = SideStream(self._device)

    def prepare(self, expert: Expert, segments: Segments) -> PackedExpert:
        """Build the blob of an expert, in pinned memory or on the device."""
        base = self._target(expert)
        size = self._arena.buffer.element_size()
        rows = zip(segments.starts, segments.lengths, segments.values, segments.write, strict=True)
        pieces = []
        for start, length, values, write in rows:
            if write:
                minus, zero, plus = map(float, values)
                out = base + int(start) * size
                pieces.append(Piece(int(start), int(length), out, minus, zero, plus))
        tables = tables_of(expert.block, pieces)
        parts = [np.zeros(16, np.uint8), tables.segments, tables.works, expert.block]
        places = [0]
        for part in parts:
            places.append(-(-(places[-1] + part.size) // _LINE) * _LINE)
        blob = self._torch.zeros(places[-1], dtype=self._torch.uint8)
        view: NDArray[np.uint8] = blob.numpy()
        for place, part in zip(places, parts, strict=False):
            view[place : place + part.size] = part
        prepared = PackedExpert(blob, places[1], places[2], places[3], tables.streams, 0)
        if self._keep == "device":
            copy = self._empty(blob.numel())
            self._address(prepared, view, copy.data_ptr(), expert.block.size)
            copy.copy_(blob)
            prepared.blob = copy
        else:
            prepared.blob = self._side.pinned(blob)
            self._room(blob.numel())
        return prepared

    def decode(self, expert: Expert, prepared: PackedExpert) -> None:
        """Write the expert's values into the arena."""
        with self._side.beside():
            blob = prepared.blob
            if self._keep == "host":
                self._room(blob.numel())
                self._address(prepared, blob.numpy(), self._staging.data_ptr(), expert.block.size)
                blob = self._staging[: blob.numel()]
                blob.copy_(prepared.blob, non_blocking=True)
            self._side.uses(blob)
            out = self._arena.buffer
            kernels.unpack_pieces(
                blob[:16],
                blob[prepared.segments :],
                blob[prepared.works :],
                prepared.streams,
                out.dtype,
            )
            if not self._arena.has_layout_of(expert):
                self._arena.set_padded(expert, self._scratch)
            self._arena.set_dense(expert)

    def _target(self, expert: Expert) -> int:
        """The address to which the first trit's value is written."""
        if self._arena.has_layout_of(expert):
            return int(self._arena.buffer.data_ptr())
        if self._scratch is None:
            # An expert of lower rank never has more trits.
            self._scratch = self._torch.empty_like(self._arena.buffer)
        return int(self._scratch.data_ptr())

    def _room(self, size: int) -> None:
        """Enlarge the staging area to `size` bytes; blobs contain its address."""
        if self._staging.numel() < size:
            # The stream may still read the old area, or blobs that will get the new address.
            self._side.settle()
            self._staging = self._empty(size)

    @staticmethod
    def _address(prepared: PackedExpert, view: NDArray[np.uint8], base: int, length: int) -> None:
        if prepared.base != base:
            prepared.base = 0  # until all of it is written
            view[:16] = np.array([base + prepared.packed, length], "<u8").view(np.uint8)
            prepared.base = base

    def _empty(self, size: int) -> Any:
        return self._torch.empty(size, dtype=self._torch.uint8, device=self._device)


class SideStream:
    """A second stream next to the one that the model runs on.

    Args:
        device: The GPU.
    """

    def __init__(self, device: Any) -> None:
        self._torch = require("torch", "peft")
        self._device = device
        self._stream = self._torch.cuda.Stream(device)

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Run the body on this stream, between the current stream's earlier and later work."""
        current = self._torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        try:
            with self._torch.cuda.stream(self._stream):
                yield
        finally:  # what was begun ends before the current stream continues, after an error too
            current.wait_stream(self._stream)

    def settle(self) -> None:
        """Wait until the stream has finished all of its work."""
        self._stream.synchronize()

    def uses(self, tensor: Any) -> None:
        """Record that this stream reads a tensor of another stream, for torch's allocator."""
        tensor.record_stream(self._stream)

    def pinned(self, tensor: Any) -> Any:
        """A copy in pinned memory, which the GPU reads directly."""
        return tensor.pin_memory()
