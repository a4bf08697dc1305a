"""Reference of the draw of `ops.linear_cross_entropy_sample`: one row of logits, block by block."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from metro_fast.testing.philox import Stream, make_key, philox4x32_10
from metro_fast.testing.sample_replacements import C1, C2, LOG2_E, POINT, TABLE, TOP

BLOCK = 256
"""Number of tokens of a block."""

DECIDING = 1 << 31
"""The number of the random words that decide about the first block."""


def distance(greatest: np.float32, logit: np.float32, scale: np.float32) -> int:
    """The distance in bits times 2^25, at most 41 * 2^25.

    Example:
        >>> distance(np.float32(1), np.float32(0), np.float32(2**25)) == 2**25
        True
    """
    with np.errstate(over="ignore"):
        product = (greatest - logit) * scale
    return int(min(product, np.float32((TOP + 1) * 2**POINT)))


def weight(distance: int) -> int:
    """`floor(2^40 * 2^-d)`.

    Example:
        >>> weight(0) == 2**40, weight(3 << 25) == 2**37
        (True, True)
    """
    shift = -(-distance >> POINT)
    rest = (shift << POINT) - distance
    entry, r = TABLE[rest >> 20], rest % (1 << 20)
    growth = (C1 + (C2 * r >> 25)) * r >> 24
    return entry + (entry * growth >> 32) << 9 >> shift


def sweep_row(
    logits: npt.NDArray[np.float32],
    sample_id: int,
    position: int = 0,
    *,
    temperature: float = 1.0,
    forbidden: Sequence[int] = (),
    seed: int = 0,
    epoch: int = 0,
) -> int:
    """The token that one row draws.

    Args:
        logits: float32 [V] without NaN and +inf.
        sample_id: The id of the row's sample.
        position: The place of the row in its sample.
        temperature: Positive.
        forbidden: Tokens that are not drawn.
        seed: The seed.
        epoch: The epoch.

    Example:
        >>> sweep_row(np.array([-np.inf, 0.0], np.float32), 0)
        1
    """
    kept = logits.copy()
    kept[list(forbidden)] = -np.inf
    scale = np.float32(LOG2_E / temperature) * np.float32(2**POINT)
    key = make_key(seed, epoch, Stream.REPLACE)

    def uniform(number: int) -> int:
        words = philox4x32_10((number, position, sample_id & 0xFFFFFFFF, sample_id >> 32), key)
        return words[0] | words[1] << 32

    greatest, mass, drawn = np.float32(-np.inf), 0, -1
    for number, first in enumerate(range(0, len(kept), BLOCK)):
        part = kept[first : first + BLOCK]
        top = part.max()
        if top == -np.inf:
            continue
        weights = [weight(distance(top, logit, scale)) for logit in part]
        here, highest = sum(weights), max(top, greatest)
        shrunk_here = here * weight(distance(highest, top, scale)) >> TOP
        if mass:
            mass = mass * weight(distance(highest, greatest, scale)) >> TOP
        greatest, total = highest, mass + shrunk_here
        if shrunk_here and uniform(DECIDING | number) * total >> 64 >= mass:
            aim = uniform(number) * here >> 64
            sums = np.cumsum(np.array(weights, np.uint64))
            drawn = first + int(np.searchsorted(sums, np.uint64(aim), side="right"))
        mass = total
    return drawn
