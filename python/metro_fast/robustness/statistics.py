"""Statistics of one task: are differences between instructions due to the wording or to sampling?

All functions take arrays and need no model. `values` is always `[P, N]`: P instructions by N items,
with the same items under every instruction: 1 where the answer was correct and 0 elsewhere, or
`Metric.item_values` of any metric, whose mean over the items is the metric.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metro_fast._extras import require
from metro_fast.errors import MetroFastError

__all__ = [
    "Interval",
    "McNemar",
    "as_values",
    "holm",
    "mcnemar_exact",
    "normal_quantile",
    "wilson_ends",
    "wilson_interval",
]


class Interval(NamedTuple):
    """The lower and the upper end."""

    low: float
    high: float


class McNemar(NamedTuple):
    """Numbers of items that only one of two got right, and the exact two-sided p of them."""

    only_first: int
    only_second: int
    p_value: float


def as_values(values: ArrayLike) -> NDArray[np.float64]:
    """Check and convert a `[P, N]` array of finite numbers.

    Args:
        values: Booleans, integers or floats.

    Returns:
        The values as float64.

    Raises:
        TypeError: If the values are not numbers.
        MetroFastError: If the array is not 2-D, is empty, or has NaN or infinite values.

    Example:
        >>> as_values([[True, False], [0.5, 1]])
        array([[1. , 0. ],
               [0.5, 1. ]])
    """
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"values has dtype {array.dtype}, expected booleans, integers or floats")
    if array.ndim != 2 or array.size == 0:
        raise MetroFastError(
            f"values has shape {array.shape}, expected [instructions, items] with at least one "
            "of each"
        )
    if not np.isfinite(array).all():
        raise MetroFastError("values has NaN or infinite numbers, expected finite ones")
    return array.astype(np.float64)


def wilson_interval(correct: int, total: int, *, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a share, which is also valid near 0 and 1 and for small n.

    Formula: (p + z²/2n ± z·√(p(1-p)/n + z²/4n²)) / (1 + z²/n) (Wilson, JASA 22, 1927).

    Args:
        correct: Number of successes.
        total: Number of trials, at least 1.
        confidence: Coverage, between 0 and 1.

    Returns:
        The interval, inside [0, 1].

    Raises:
        MetroFastError: If the counts or the confidence are out of range.

    Example:
        >>> low, high = wilson_interval(50, 100)
        >>> round(low, 4), round(high, 4)
        (0.4038, 0.5962)
    """
    if total < 1 or not 0 <= correct <= total:
        raise MetroFastError(
            f"{correct} right of {total}, expected 0 <= right <= total and total >= 1"
        )
    return wilson_ends(correct / total, total, normal_quantile(confidence))


def wilson_ends(share: float, total: float, z: float) -> Interval:
    """Wilson's interval of a share of `total` trials, which may be an effective number."""
    center = share + z * z / (2 * total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return Interval(max(0.0, (center - half) / scale), min(1.0, (center + half) / scale))


def normal_quantile(confidence: float) -> float:
    """The z with P(|Z| < z) = confidence."""
    if not 0 < confidence < 1:
        raise MetroFastError(f"confidence is {confidence}, expected a number between 0 and 1")
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def mcnemar_exact(first: ArrayLike, second: ArrayLike) -> McNemar:
    """McNemar's exact test: which of two answers to each item is correct more often?

    If neither is better, the number of items that only the first got right is Binomial(b + c, ½),
    where b + c items were right for only one of them; p is two-sided, 2·P(X <= min(b, c)), at
    most 1.

    Args:
        first: `[N]`, 0 or 1.
        second: `[N]`, 0 or 1, for the same items.

    Returns:
        Both counts and p.

    Raises:
        TypeError: As for `as_values`.
        MetroFastError: If the lengths differ, there are no items, or there are values besides 0 and
            1, which `paired_test` compares.
        MissingExtraError: If scipy is not installed.

    Example:
        >>> mcnemar_exact([1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0])
        McNemar(only_first=5, only_second=0, p_value=0.0625)
    """
    a, b = as_values(np.atleast_2d(first))[0], as_values(np.atleast_2d(second))[0]
    if a.shape != b.shape:
        raise MetroFastError(f"{a.size} items against {b.size}, expected the same items")
    if not np.isin((a, b), (0, 1)).all():
        raise MetroFastError(
            "McNemar's test compares answers that are right or wrong, but there are values besides "
            "0 and 1; use paired_test"
        )
    only_first, only_second = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
    discordant = only_first + only_second
    binomial = require("scipy.special", "eval").bdtr
    fewer = min(only_first, only_second)
    tail = float(binomial(fewer, discordant, 0.5)) if discordant else 1.0
    return McNemar(only_first, only_second, min(1.0, 2 * tail))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjustment of the p values of several tests.

    Args:
        p_values: The p value of each test, from 0 to 1.

    Returns:
        Adjusted values in the same order: the largest (m - rank) · p over all values that are not
        larger, at most 1.

    Raises:
        MetroFastError: If a value is not from 0 to 1.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise MetroFastError(f"p values are {list(p_values)}, expected numbers from 0 to 1")
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
