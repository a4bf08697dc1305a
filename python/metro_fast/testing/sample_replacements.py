"""Reference of `metro_fast.ops.sample_replacements`: the same integers, one row at a time."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from metro_fast.testing.philox import Stream, make_key, words

POINT = 25
"""Number of bits after the point of a distance."""

TOP = 40
"""Binary logarithm of the envelope of the greatest logit."""

LOG2_E = 1.4426950408889634

TABLE: list[int] = [round(2 ** (31 + i / 32)) for i in range(32)]
"""2^31 * 2^(i / 32)."""

C1, C2 = 0x58B84744, 0x1F0F3E4C
"""2^r - 1 ~ r (C1 + C2 r) on [0, 1/32), minimax, times 2^31."""


def distances(logits: npt.NDArray[np.float32], temperature: float = 1.0) -> npt.NDArray[np.uint64]:
    """The distance d of each logit from the greatest one in bits, times 2^25: at most 41 * 2^25.

    Args:
        logits: float32 [V] without NaN and +inf.
        temperature: Positive.

    Example:
        >>> distances(np.array([1.0, 0.0, -np.inf], np.float32)).tolist()
        [0, 48408812, 1375731712]
    """
    scale = np.float32(LOG2_E / temperature) * np.float32(2**POINT)
    with np.errstate(over="ignore"):
        products = (logits.max() - logits) * scale
    capped: npt.NDArray[np.float32] = np.minimum(products, np.float32((TOP + 1) * 2**POINT))
    return capped.astype(np.uint64)


def envelopes(distances: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """`2^(40 - floor(d))`, by which a token is proposed; 0 from 41 on.

    Example:
        >>> [hex(e) for e in envelopes(np.array([0, 3 << 24, 41 << 25], np.uint64))]
        ['0x10000000000', '0x8000000000', '0x0']
    """
    found: npt.NDArray[np.uint64] = np.uint64(1 << TOP) >> (distances >> np.uint64(POINT))
    return found


def acceptance(distance: int) -> int:
    """`2^(32 - frac(d))`: a proposal is accepted if 32 random bits are below.

    Example:
        >>> hex(acceptance(7 << 25)), hex(acceptance(1 << 24))
        ('0x100000000', '0xb504f334')
    """
    rest = -distance % (1 << POINT)
    if rest == 0:
        return 1 << 32
    entry, r = TABLE[rest >> 20], rest % (1 << 20)
    growth = (C1 + (C2 * r >> 25)) * r >> 24
    return entry + (entry * growth >> 32)


def weights(logits: npt.NDArray[np.float32], temperature: float = 1.0) -> npt.NDArray[np.float64]:
    """The law of a draw: envelope times acceptance of each token, which is exact in float64.

    Args:
        logits: float32 [V] without NaN and +inf.
        temperature: Positive.

    Example:
        >>> weights(np.array([0.0, -np.inf], np.float32)) / 2.0**72
        array([1., 0.])
    """
    found = distances(logits, temperature)
    accepted = [acceptance(distance) for distance in found.tolist()]
    return envelopes(found).astype(np.float64) * np.array(accepted, np.float64)


def allowed(
    logits: npt.NDArray[np.float32],
    *,
    top_k: int | None = None,
    forbidden: Sequence[int] = (),
    excluded: int | None = None,
) -> npt.NDArray[np.float32]:
    """The logits with -inf at each token that may not be drawn.

    Example:
        >>> allowed(np.array([3, 2, 2, 1, 0], np.float32), top_k=1, forbidden=[0]).tolist()
        [-inf, 2.0, 2.0, -inf, -inf]
    """
    kept = logits.copy()
    kept[list(forbidden)] = -np.inf
    if excluded is not None:
        kept[excluded] = -np.inf
    if top_k is not None and top_k < len(kept):
        kept[kept < np.sort(kept)[-top_k]] = -np.inf
    return kept


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
    found = distances(logits, temperature)
    sums = np.cumsum(envelopes(found))
    for proposal in range(64):
        uniform, chance = next(source) | next(source) << 32, next(source)
        next(source)
        target = uniform * int(sums[-1]) >> 64
        token = int(np.searchsorted(sums, np.uint64(target), side="right"))
        if chance < acceptance(int(found[token])) or proposal == 63:
            break
    return token
