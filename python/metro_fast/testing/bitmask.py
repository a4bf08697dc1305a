"""Reference of a bitmask stream, written from docs/expert-format.md, section 6."""

import numpy as np
from numpy.typing import NDArray


def encode(trits: NDArray[np.int8]) -> bytes:
    """Mask words, sign bits, zeros up to a multiple of 16 bytes."""
    mask = np.zeros(-(-trits.size // 32) * 32, bool)
    mask[: trits.size] = trits != 0
    signs = trits[trits != 0] < 0
    data = np.packbits(mask, bitorder="little").tobytes()
    data += np.packbits(signs, bitorder="little").tobytes()
    return data + bytes(-len(data) % 16)
