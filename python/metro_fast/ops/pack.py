"""Trits to bytes."""

from typing import Any

import numpy as np

from metro_fast import _core
from metro_fast.ops.arrays import give, is_tensor, typed
from metro_fast.ops.draws import check_counter, resolve_threads
from metro_fast.ops.ternarize import CHUNK


def pack(
    trits: Any,
    *,
    coding: str = "t4",
    steps: int | None = None,
    num_threads: int | None = None,
) -> Any:
    """Pack trits into a block of bytes near their entropy (docs/expert-format.md, section 4).

    Args:
        trits: int8 array or CPU tensor of any shape, each entry -1, 0 or 1; packed row-major.
        coding: `"t4"`: T4-rANS, the smallest; `"bitmask"`: one bit an entry and one a nonzero
            entry, which logic runs on as it lies.
        steps: S of the format page, a power of two from 512 to 16384: 64 S trits make a stream,
            which is the unit of threads and costs 256 bytes. 2048 below 2 million trits, else
            4096, by default.
        num_threads: Threads to use; the machine's cores by default. The bytes do not depend on it.

    Returns:
        uint8 [n], of the kind of `trits`: header, index with checksums, payload, zero guard.

    Raises:
        TypeError: If `trits` is not int8.
        MetroFastError: If an entry is not a trit, or coding or steps is unknown.

    Example:
        >>> packed = pack(np.zeros(1_000_000, np.int8))
        >>> packed.nbytes
        416
    """
    values = typed("trits", trits, np.int8).reshape(-1)
    threads = resolve_threads(num_threads, values.size, CHUNK)
    steps = None if steps is None else min(check_counter("steps", steps), 1 << 31)
    return give(_core.pack(values, coding, steps, threads), tensor=is_tensor(trits))
