"""Reference of `metro_fast.ops.sample_replacements`: the same integers, one row at a time."""

import numpy as np
import numpy.typing as npt

from metro_fast.testing.philox import Stream, make_key, words

POINT = 25
"""Number of bits after the point of a distance."""

LOG2_E = 1.4426950408889634

TABLE = np.array([round(2 ** (31 + i / 32)) for i in range(32)], np.uint64)
"""2^31 * 2^(i / 32)."""

C1, C2 = np.uint64(0x58B84744), np.uint64(0x1F0F3E4C)
"""2^r - 1 ~ r (C1 + C2 r) on [0, 1/32), minimax, times 2^31."""


def weights(logits: npt.NDArray[np.float32], temperature: float = 1.0) -> npt.NDArray[np.uint64]:
    """`floor(2^40 * 2^-d)` for each logit, where d is its distance from the largest one in bits.

    Args:
        logits: float32 [V] without NaN and +inf.
        temperature: Positive.

    Example:
        >>> [hex(w) for w in weights(np.array([0.0, -np.inf], np.float32))]
        ['0x10000000000', '0x0']
    """
    scale = np.float32(LOG2_E / temperature) * np.float32(2**POINT)
    with np.errstate(over="ignore"):
        capped = np.minimum((logits.max() - logits) * scale, np.float32(63 * 2**POINT))
    distance = capped.astype(np.uint64)
    shift = (distance + np.uint64(2**POINT - 1)) >> np.uint64(POINT)
    fraction = (shift << np.uint64(POINT)) - distance
    entry = TABLE[(fraction >> np.uint64(20)).astype(np.intp)]
    r = fraction & np.uint64(0xFFFFF)
    slope = C1 + ((C2 * r) >> np.uint64(25))
    growth = (slope * r) >> np.uint64(24)
    mantissa = entry + ((entry * growth) >> np.uint64(32))
    weight: npt.NDArray[np.uint64] = (mantissa << np.uint64(9)) >> shift
    return weight


def sample_row(
    logits: npt.NDArray[np.float32],
    sample_id: int,
    position: int = 0,
    *,
    temperature: float = 1.0,
    seed: int = 0,
    epoch: int = 0,
) -> int:
    """The token that one row draws.

    Example:
        >>> sample_row(np.array([-np.inf, 0.0], np.float32), 0)
        1
    """
    source = words(make_key(seed, epoch, Stream.REPLACE), sample_id, position)
    uniform = next(source) | next(source) << 32
    sums = np.cumsum(weights(logits, temperature))
    target = uniform * int(sums[-1]) >> 64
    return int(np.searchsorted(sums, np.uint64(target), side="right"))
