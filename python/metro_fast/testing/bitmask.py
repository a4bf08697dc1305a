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


def decode(data: bytes, count: int) -> NDArray[np.int8]:
    """Trits of a stream of `count`.

    Raises:
        ValueError: If the stream is damaged.
    """
    mask_bytes = -(-count // 32) * 4
    bits = np.unpackbits(np.frombuffer(data[:mask_bytes], np.uint8), bitorder="little")
    signs = np.unpackbits(np.frombuffer(data[mask_bytes:], np.uint8), bitorder="little")
    nonzeros = int(bits.sum())
    length = mask_bytes + -(-nonzeros // 8)
    if bits.size < count or bits[count:].any() or len(data) != length + -length % 16:
        raise ValueError("the mask")
    if signs[nonzeros:].any():
        raise ValueError("the signs")
    trits = bits[:count].astype(np.int8)
    trits[trits == 1] = 1 - 2 * signs[:nonzeros].astype(np.int8)
    return trits
