"""Packs trits into bytes."""

import numpy as np

from metro_fast import _core
from metro_fast.ops.arrays import ArrayT, give, is_tensor, typed
from metro_fast.ops.draws import check_counter, resolve_threads
from metro_fast.ops.ternarize import CHUNK


def pack(
    trits: ArrayT,
    *,
    coding: str = "t4",
    steps: int | None = None,
    num_threads: int | None = None,
) -> ArrayT:
    """Pack trits into a block of bytes near their entropy (docs/expert-format.md, section 4).

    Args:
        trits: int8 array or CPU tensor of any shape, each entry -1, 0 or 1; packed row-major.
        coding: `"t4"` is T4-rANS, the smallest. `"bitmask"` is one bit per entry and another per
            nonzero entry; bitwise operations can use it without decoding.
        steps: S of the format page, a power of two from 512 to 16384. A stream has 64 S trits; it
            is the unit of work of a thread, and costs 256 bytes. By default 2048 below 2 million
            trits, else 4096.
        num_threads: Number of threads; the machine's cores by default. It does not change the
            bytes.

    Returns:
        uint8 [n], of the kind of `trits`: header, index with checksums, payload, zero guard.

    Raises:
        TypeError: If `trits` is not int8.
        MetroFastError: If an entry is not a trit, or the coding or the steps are unknown.

    Example:
        >>> packed = pack(np.zeros(1_000_000, np.int8))
        >>> packed.nbytes
        416
    """
    values = typed("trits", trits, np.int8).reshape(-1)
    threads = resolve_threads(num_threads, values.size, CHUNK)
    steps = None if steps is None else min(check_counter("steps", steps), 1 << 31)
    block: ArrayT = give(_core.pack(values, coding, steps, threads), tensor=is_tensor(trits))
    return block
