"""Reference of `ops.unpack`, written from docs/expert-format.md, section 4."""

import struct

import numpy as np
from numpy.typing import NDArray

from metro_fast.testing import bitmask, t4_rans
from metro_fast.testing.pack import crc32c


def unpack(block: bytes, frequencies: t4_rans.Frequencies) -> NDArray[np.int8]:
    """The trits of a block.

    Raises:
        ValueError: If the block is damaged.
    """
    magic, version, log_steps, _, count, total, streams, crc = struct.unpack_from(
        "<4sBBHQQII", block
    )
    payload = 32 + 16 * streams
    if (magic, version, total) != (b"MFT4", 1, len(block)):
        raise ValueError("the header")
    if crc != crc32c(block[:28] + block[32:payload]):
        raise ValueError("the index")
    rows = [struct.unpack_from("<IIBBHI", block, 32 + 16 * i) for i in range(streams)]
    starts = [payload + 16 * row[0] for row in rows] + [len(block) - 256]
    parts = [np.zeros(0, np.int8)]
    for i, (_, nonzeros, kind, density_class, _, checksum) in enumerate(rows):
        data = block[starts[i] : starts[i + 1]]
        length = min(64 << log_steps, count - i * (64 << log_steps))
        if checksum != crc32c(data):
            raise ValueError("a stream")
        if kind == 0:
            trits = t4_rans.decode(data, density_class, length, frequencies)
        else:
            trits = bitmask.decode(data, length) if kind == 1 else np.zeros(length, np.int8)
        if np.count_nonzero(trits) != nonzeros:
            raise ValueError("nonzeros")
        parts.append(trits)
    return np.concatenate(parts)
