"""Span corruption in numba: subsets by Floyd's algorithm, runs copied in loops."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


def numba_batch(noise: int, spans: int) -> Callable[..., Any]:
    """A compiled `batch(ids, inputs, labels, seed)` for rows of these counts."""
    numba = pytest.importorskip("numba")

    @numba.njit
    def segments(total, parts, taken, lengths):
        taken[: total - 1] = False
        for j in range(total - parts, total - 1):
            t = np.random.randint(0, j + 1)  # noqa: NPY002 (what numba knows)
            taken[j if taken[t] else t] = True
        part, previous = 0, 0
        for end in range(total - 1):
            if taken[end]:
                lengths[part] = end + 1 - previous
                previous = end + 1
                part += 1
        lengths[part] = total - previous

    @numba.njit
    def batch(ids, inputs, labels, seed):
        np.random.seed(seed)  # noqa: NPY002
        rows, length = ids.shape
        taken = np.empty(length, np.bool_)
        keep, hide = np.empty(spans, np.int64), np.empty(spans, np.int64)
        for row in range(rows):
            segments(noise, spans, taken, hide)
            segments(length - noise, spans, taken, keep)
            at, i, out = 0, 0, 0
            for span in range(spans):
                for _ in range(keep[span]):
                    inputs[row, i] = ids[row, at]
                    i += 1
                    at += 1
                inputs[row, i] = labels[row, out] = 32_099 - span
                i += 1
                out += 1
                for _ in range(hide[span]):
                    labels[row, out] = ids[row, at]
                    out += 1
                    at += 1
            inputs[row, i] = labels[row, out] = 1

    return batch
