"""Weighted sums of packed experts."""

import numpy as np
from numpy.typing import NDArray

from metro_fast import _core
from metro_fast.experts.merging.members import NATIVE_EXPERTS, Members, trits_of_combinations

SEARCH_EXPERTS = 4
"""Experts per pass where sums are computed repeatedly: close to the fastest choice from 71 thousand
to 20 million positions and from 2 to 72 tables (one core; 8 take up to 40 times as long there)."""


def weighted_sum(
    packed: Members,
    weights: NDArray[np.float64],
    flat: NDArray[np.float32],
    *,
    at_once: int = NATIVE_EXPERTS,
) -> None:
    """Write the weighted sum of the updates of experts, computed a few experts at a time.

    Args:
        packed: The experts.
        weights: float64 [experts], or [experts, tensors] if they differ between the tensors.
        flat: float32, one entry per trit. Between the tensors nothing is written; the values there
            must be finite.
        at_once: Experts per pass, 1 to 8: more experts mean fewer passes and larger tables.

    Example:
        >>> from metro_fast.experts import compress
        >>> rows = (np.float32([1, -1, 0, 0]), np.float32([1, 0, 0, 3]))
        >>> one, two = (compress({"w": w}, kind="other", density=0.5, alpha=1.0) for w in rows)
        >>> out = np.empty(32, np.float32)
        >>> weighted_sum(Members({"a": one, "b": two}), np.array([1.0, 0.0]), out)
        >>> bool(np.all(out[:4] == one.arrays()["w"]))
        True
    """
    scales = packed.scales * weights.reshape(len(packed.experts), -1)
    part = np.zeros_like(flat) if len(packed.experts) > at_once else flat
    for first in range(0, len(packed.experts), at_once):
        some = slice(first, first + at_once)
        pieces, columns = packed.pieces(scales[some])
        trits = trits_of_combinations(len(columns))
        tables = (columns.T @ trits).astype(np.float32)
        out = flat if first == 0 else part
        _core.look_up(packed.planes[some], pieces, tables, out, packed.threads)
        if first:
            np.add(flat, part, out=flat)
