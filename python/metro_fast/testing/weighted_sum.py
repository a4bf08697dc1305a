"""A weighted sum of adapters as LoraHub computes it: whole state dicts, name by name."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


def weighted_sum(
    states: Sequence[Mapping[str, NDArray[np.float32]]], weights: Sequence[float]
) -> dict[str, NDArray[np.float64]]:
    """Sum adapters with weights. Vectors of IA3 (`ia3_l`) are summed as their differences from 1.

    Args:
        states: State dicts with the same names and shapes.
        weights: One weight for each state dict.

    Returns:
        float64 arrays by name.

    Example:
        >>> one, two = {"m.ia3_l": np.float32([2, 1])}, {"m.ia3_l": np.float32([1, 3])}
        >>> weighted_sum([one, two], [1.0, 0.5])["m.ia3_l"].tolist()
        [2.0, 2.0]
    """
    sums = {}
    for name, first in states[0].items():
        start = 1.0 if ".ia3_l" in name else 0.0
        total = np.full(first.shape, start)
        for state, weight in zip(states, weights, strict=True):
            total += weight * (state[name].astype(np.float64) - start)
        sums[name] = total
    return sums
