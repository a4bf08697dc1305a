"""Hypothesis strategies: batches as callers hold them."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

ID_DTYPES = (np.uint16, np.uint32, np.int32, np.int64)
"""Types that token ids come in."""

counters = st.integers(0, 2**63 - 1)
"""Seeds, epochs and sample ids."""


@st.composite
def ragged_rows(
    draw: st.DrawFn, *, lowest: int = 2, highest: int = 31_000, max_rows: int = 5, longest: int = 60
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Flat ids of a random type, offsets, and distinct sample ids.

    Args:
        draw: Given by hypothesis.
        lowest: Lowest id.
        highest: Highest id.
        max_rows: Most rows.
        longest: Most tokens in a row; no row is empty.
    """
    lengths = draw(st.lists(st.integers(1, longest), min_size=1, max_size=max_rows))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    # The values do not steer any choice, so they need not be shrunk one by one.
    values = np.random.default_rng(draw(st.integers(0, 2**32))).integers(
        lowest, highest, int(offsets[-1]), endpoint=True
    )
    names = draw(st.lists(counters, min_size=len(lengths), max_size=len(lengths), unique=True))
    return values.astype(draw(st.sampled_from(ID_DTYPES))), offsets, np.array(names, np.int64)


def random_trits(count: int, density: float, seed: int) -> NDArray[np.int8]:
    """Trits of which a share of about `density` is not zero, with even signs."""
    rng = np.random.default_rng(seed)
    signs = rng.integers(0, 2, count) * 2 - 1
    return np.where(rng.random(count) < density, signs, 0).astype(np.int8)
