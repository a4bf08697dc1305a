"""Hypothesis strategies: batches as callers have them, and denoising tasks."""

from typing import Any, get_args

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from metro_fast.ops import Denoiser, SpanLengths
from metro_fast.ops.denoiser import Inputs, Noise, Targets

ID_DTYPES = (np.uint16, np.uint32, np.int32, np.int64)
"""Types of token ids."""

counters = st.integers(0, 2**63 - 1)
"""Seeds, epochs and sample ids."""


@st.composite
def ragged_rows(
    draw: st.DrawFn, *, lowest: int = 2, highest: int = 31_000, max_rows: int = 5, longest: int = 60
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Flat ids of a random type, offsets, and distinct sample ids.

    Args:
        draw: Supplied by hypothesis.
        lowest: Lowest id.
        highest: Highest id.
        max_rows: Largest number of rows.
        longest: Largest number of tokens in a row; no row is empty.
    """
    lengths = draw(st.lists(st.integers(1, longest), min_size=1, max_size=max_rows))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    # The values do not influence any choice, so they need not be shrunk one by one.
    values = np.random.default_rng(draw(st.integers(0, 2**32))).integers(
        lowest, highest, int(offsets[-1]), endpoint=True
    )
    names = draw(st.lists(counters, min_size=len(lengths), max_size=len(lengths), unique=True))
    return values.astype(draw(st.sampled_from(ID_DTYPES))), offsets, np.array(names, np.int64)


def random_trits(count: int, density: float, seed: int) -> NDArray[np.int8]:
    """Trits of which a share of about `density` is not zero, with balanced signs."""
    rng = np.random.default_rng(seed)
    signs = rng.integers(0, 2, count) * 2 - 1
    return np.where(rng.random(count) < density, signs, 0).astype(np.int8)


def _span_lengths() -> st.SearchStrategy[SpanLengths]:
    bounds = st.tuples(st.integers(1, 6), st.integers(0, 6))
    return st.one_of(
        st.integers(1, 9).map(SpanLengths.fixed),
        bounds.map(lambda pair: SpanLengths.uniform(pair[0], sum(pair))),
        st.floats(0.05, 1).map(lambda p: SpanLengths.geometric(p, 10)),
        st.floats(0.1, 6).map(SpanLengths.poisson),
    )


@st.composite
def denoisers(draw: st.DrawFn, *, noise: Noise | None = None) -> Denoiser:
    """A denoiser with any inputs and targets, and with any kind of noise or a given one.

    Args:
        draw: Supplied by hypothesis.
        noise: The kind of noise.
    """
    law: Noise = draw(st.sampled_from(get_args(Noise))) if noise is None else noise
    lowest, highest = {"regular_spans": (0.01, 0.99), "prefix": (0.0, 0.5)}.get(law, (0.0, 0.99))
    shortest = draw(st.integers(1, 4))
    return Denoiser(
        noise=law,
        noise_density=draw(st.floats(lowest, highest)),
        mean_noise_span_length=draw(st.floats(1, 12)),
        compat=draw(st.sampled_from(("t5", "hf"))),
        span_lengths=draw(_span_lengths()) if law == "sampled_spans" else None,
        span_length_range=(shortest, shortest + draw(st.integers(0, 6))),
        max_span_length=draw(st.integers(1, 6)),
        empty_probability=draw(st.sampled_from((0.0, 0.1, 0.5))),
        upstream=draw(st.booleans()),
        inputs=draw(st.sampled_from(get_args(Inputs))),
        targets=draw(st.sampled_from(get_args(Targets))),
        prefix_token_id=draw(st.sampled_from((None, 31_999))),
    )
