"""Reference of `ops.ternarize`: sort, keep, take signs."""

import math

import numpy as np
from numpy.typing import NDArray


def ternarize(
    x: NDArray[np.float32], *, density: float, alpha: float | str = 1.0
) -> tuple[NDArray[np.int8], float]:
    """Trits and scale of a vector, by sorting.

    The trits are equal to those of `ops.ternarize`. The scale agrees up to rounding in float32,
    because sums are taken in another order.

    Example:
        >>> ternarize(np.array([1, -2, 0, 3, 2], np.float32), density=0.4, alpha="least_squares")
        (array([ 0, -1,  0,  1,  0], dtype=int8), 2.5)
    """
    flat = x.reshape(-1).astype(np.float64)
    kept = np.argsort(-np.abs(flat), kind="stable")[: math.floor(flat.size * density + 1e-6)]
    trits = np.zeros(flat.size, np.int8)
    trits[kept] = np.sign(flat[kept])
    if alpha == "least_squares":
        scale = float(np.abs(flat[trits != 0]).mean()) if trits.any() else 0.0
    else:
        std = float(flat.std(ddof=1)) if flat.size > 1 else float(np.abs(flat).sum())
        scale = float(alpha) * std
    return trits.reshape(x.shape), float(np.float32(scale))
