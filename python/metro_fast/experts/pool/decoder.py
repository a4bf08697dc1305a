"""Decoding of a pool's experts into its buffer, on the CPU or on the GPU."""

from typing import Any, Protocol

import numpy as np

from metro_fast.errors import MetroFastError
from metro_fast.experts.expert import Expert
from metro_fast.experts.file.segments import NATIVE, Segments
from metro_fast.experts.pool.arena import Arena
from metro_fast.ops.draws import resolve_threads
from metro_fast.ops.ternarize import CHUNK

KEEP = ("host", "device")


class Decoder(Protocol):
    """Decodes experts into an arena."""

    def prepare(self, expert: Expert, segments: Segments) -> Any:
        """Prepare an expert once; every call of `decode` gets the result."""

    def decode(self, expert: Expert, prepared: Any) -> None:
        """Write the expert's values into the arena.

        Args:
            expert: The expert.
            prepared: What `prepare` returned for it.

        Raises:
            FormatError: If the expert's bytes were changed since they were checked.
        """


class CpuDecoder:
    """Decodes on the CPU, directly into the arena's buffer.

    Args:
        arena: The arena.
        num_threads: Threads of a swap, or None to choose by the size of the expert.
    """

    def __init__(self, arena: Arena, num_threads: int | None) -> None:
        self._arena = arena
        self._num_threads = num_threads

    def prepare(self, expert: Expert, segments: Segments) -> Segments:
        """Return the segments: `decode` needs nothing else."""
        return segments

    def decode(self, expert: Expert, prepared: Segments) -> None:
        """Write the expert's values into the arena."""
        arena = self._arena
        threads = resolve_threads(self._num_threads, arena.bits.size, CHUNK)
        if arena.has_layout_of(expert):
            prepared.expand(expert.block, arena.dtype, arena.bits, threads)
        else:
            expert.check_size(NATIVE[arena.dtype][1]().itemsize, "decoding the expert for the pool")
            bits = np.empty(expert.manifest.trits, NATIVE[arena.dtype][1])
            prepared.expand(expert.block, arena.dtype, bits, threads)
            arena.set_padded(expert, arena.values_of(bits))
        arena.set_dense(expert)


def decoder_of(arena: Arena, num_threads: int | None, keep: str) -> Decoder:
    """The decoder for the device that an arena is on.

    Args:
        arena: The arena to decode into.
        num_threads: Threads of a swap on the CPU.
        keep: On a GPU: where the packed bytes are kept, `"host"` (pinned memory) or `"device"`.

    Raises:
        MetroFastError: If `keep` is neither, or the device is neither the CPU nor a CUDA device.
        CudaError: If CUDA is missing.
    """
    if keep not in KEEP:
        raise MetroFastError(f"keep is {keep!r}, expected one of {', '.join(KEEP)}")
    kind = arena.buffer.device.type
    if kind == "cpu":
        return CpuDecoder(arena, num_threads)
    if kind != "cuda":
        raise MetroFastError(f"the adapter is on {arena.buffer.device}, expected the CPU or CUDA")
    from metro_fast.experts.pool.cuda_decoder import CudaDecoder

    return CudaDecoder(arena, keep)
