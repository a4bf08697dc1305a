"""The difference of two models over the same items and instructions, with an interval that holds.

A Wald interval has no width where the two never differ, and so shows equality with two items. The
intervals here have a width of about 3.7 / N then: no event in N items leaves a rate of up to
1 - 0.025^(1/N) possible.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metro_fast._extras import require
from metro_fast.errors import MetroFastError
from metro_fast.robustness.resampling import group_index
from metro_fast.robustness.statistics import Interval, as_values, normal_quantile

__all__ = [
    "PairedDifference",
    "bounded_mean_interval",
    "exchange_p_value",
    "paired_difference",
    "same_cells",
    "tango_interval",
]

_DRAWS = 4_000
"""With as many, the ends vary by about 1 % of the width from seed to seed."""
_HALVINGS = 60
"""Steps of bisection: an interval of length 2 becomes one below the spacing of float64."""


class PairedDifference(NamedTuple):
    """The mean of second minus first over the same cells, with its standard error and interval.

    `equal_within` is the smallest margin within which the two are shown to be equal.
    """

    mean: float
    standard_error: float
    interval: Interval
    equal_within: float


def paired_difference(
    first: ArrayLike,
    second: ArrayLike,
    *,
    groups: Sequence[str] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> PairedDifference:
    """Mean difference of two models over the same items and instructions.

    d_i is the mean over instructions of x_ip(second) - x_ip(first), and the instructions count as
    fixed. One instruction with answers that are right or wrong has Tango's score interval, several
    have the interval of a bounded mean over the d_i. With groups, SE² = G/(G-1) Σ_g (Σ_{i in g}
    (d_i - d̄))² / N² (Miller, arXiv 2411.00640, with the correction for few groups), and the
    interval is the wider one of Student's with G - 1 degrees and that of independent items.
    Equality needs more: whole groups may go wrong that are too rare to be among these.
    `equal_within` is that of the interval and of the bounded mean of G numbers, what each group
    adds; for 600 groups of five, a loss at the margin is called equal in 6 % of runs without it.

    Args:
        first: `[P, N]`, 0 or 1, or any metric's `item_values`.
        second: `[P, N]`.
        groups: `[N]`, the group of each item; by default each item is its own group.
        confidence: Coverage of the interval.
        seed: Seed of the draws of the bounded mean.

    Returns:
        Mean, standard error, interval and margin of equality.

    Raises:
        TypeError: As for `as_values`.
        MetroFastError: If the shapes differ, or there are fewer than two groups.
        MissingExtraError: If there are groups and scipy is not installed.

    Example:
        >>> right, wrong = [[1, 1, 0, 0] * 25], [[1, 0, 0, 0] * 25]
        >>> low, high = paired_difference(right, wrong).interval
        >>> round(low, 3), round(high, 3)
        (-0.343, -0.175)
    """
    a, b = same_cells(first, second)
    difference = (b - a).mean(0)
    total = len(difference)
    membership, count = group_index(groups, total)
    if count < 2:
        raise MetroFastError("all items are of one group; a standard error needs at least 2 groups")
    mean = float(difference.mean())
    sums = np.bincount(membership, weights=difference - mean, minlength=count)
    error = math.sqrt(count / (count - 1) * float((sums**2).sum())) / total
    if len(a) == 1 and np.isin((a, b), (0, 1)).all():
        only_first, only_second = int((difference < 0).sum()), int((difference > 0).sum())
        independent = tango_interval(only_first, only_second, total, confidence=confidence)
    else:
        independent = bounded_mean_interval(difference, confidence=confidence, seed=seed)
    if count == total:
        return PairedDifference(mean, error, independent, _farthest(independent))
    half = error * float(require("scipy.special", "eval").stdtrit(count - 1, 0.5 + confidence / 2))
    wider = Interval(min(independent.low, mean - half), max(independent.high, mean + half))
    sizes = np.bincount(membership, minlength=count) * count / total
    added = np.bincount(membership, weights=difference, minlength=count) * count / total
    by_groups = bounded_mean_interval(
        added, bound=float(sizes.max()), confidence=confidence, seed=seed
    )
    return PairedDifference(mean, error, wider, max(_farthest(wider), _farthest(by_groups)))


def _farthest(interval: Interval) -> float:
    return max(-interval.low, interval.high)


def exchange_p_value(
    first: ArrayLike,
    second: ArrayLike,
    *,
    groups: Sequence[str] | None = None,
    swaps: int = 9_999,
    seed: int = 0,
) -> float:
    """Two-sided p that the mean difference of two models over all instructions is 0.

    As in `paired_test`, what two models alike say about an item, or a group of items, may be
    exchanged, here under all instructions at once.

    Args:
        first: `[P, N]`.
        second: `[P, N]`.
        groups: `[N]`, the group of each item.
        swaps: Number of random exchanges.
        seed: Seed of the exchanges.

    Returns:
        The share of the exchanges, and of the observed difference, that differ by as much.

    Raises:
        TypeError: As for `as_values`.
        MetroFastError: If the shapes differ, or the number of groups is not that of items.

    Example:
        >>> exchange_p_value([[1, 1, 1, 1, 0]] * 2, [[1, 1, 1, 1, 0]] * 2)
        1.0
    """
    a, b = same_cells(first, second)
    membership, count = group_index(groups, a.shape[1])
    sums = np.bincount(membership, weights=(b - a).mean(0), minlength=count)
    sums = sums[np.abs(sums) > 1e-12]
    observed = abs(float(sums.sum())) - 1e-9
    generator, hits = np.random.default_rng(seed), 0
    size = max(1, (1 << 20) // max(sums.size, 1))
    for start in range(0, swaps, size):
        number = min(size, swaps - start)
        signs = 2.0 * generator.integers(0, 2, (number, sums.size), dtype=np.int8) - 1
        hits += int((np.abs(signs @ sums) >= observed).sum())
    return (hits + 1) / (swaps + 1)


def tango_interval(
    only_first: int, only_second: int, total: int, *, confidence: float = 0.95
) -> Interval:
    """Score interval of the difference of two shares that were measured on the same items.

    The ends are the differences δ at which (c - b - nδ) / √(n(2q + δ(1 - δ))) is ± z, with b and c
    items that only the first and only the second got right, and q the most likely share of b given
    δ, the larger root of 2nq² + (-b - c + (2n - c + b)δ)q - bδ(1 - δ) = 0 (Tango, Statistics in
    Medicine 17, 1998). Equality within a point was then wrongly claimed in at most 3 % of runs at
    every N from 10 to 3,000.

    Args:
        only_first: Number of items that only the first got right.
        only_second: Number of items that only the second got right.
        total: Number of all items, at least 1.
        confidence: Coverage.

    Returns:
        The interval of the second share minus the first, inside [-1, 1].

    Raises:
        MetroFastError: If the counts or the confidence are out of range.

    Example:
        >>> low, high = tango_interval(1, 7, 21)  # the example of Tango's article
        >>> round(low, 3), round(high, 3)
        (0.026, 0.517)
    """
    if total < 1 or min(only_first, only_second) < 0 or only_first + only_second > total:
        raise MetroFastError(
            f"{only_first} and {only_second} of {total} items, expected counts whose sum is at "
            "most their total, which is at least 1"
        )
    z = normal_quantile(confidence)

    def statistic(delta: float) -> float:
        b = -only_first - only_second + (2 * total - only_second + only_first) * delta
        c = -only_first * delta * (1 - delta)
        share = (math.sqrt(max(b * b - 8 * total * c, 0.0)) - b) / (4 * total)
        variance = total * (2 * share + delta * (1 - delta))
        distance = only_second - only_first - total * delta
        # Without variance, every distance is infinitely many standard errors.
        return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance)

    def crossing(level: float, low: float, high: float) -> float:
        """Where the statistic, which falls as δ rises, passes the level."""
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if statistic(middle) > level else (low, middle)
        return (low + high) / 2

    observed = (only_second - only_first) / total
    return Interval(
        crossing(z, -1.0, observed) if observed > -1 else -1.0,
        crossing(-z, observed, 1.0) if observed < 1 else 1.0,
    )


def bounded_mean_interval(
    values: ArrayLike, *, bound: float = 1.0, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Interval of the mean of independent numbers in ± bound, whatever their distribution.

    The upper end is a quantile of Σ w_i x_i + w_{N+1}·bound, with weights that are uniform on the
    simplex, and the lower end is its mirror image (Gaffke, Mathematical Methods of Statistics 14,
    2005; Learned-Miller and Thomas, arXiv 1905.06208). It is the Bayesian bootstrap with one more
    number at the bound, which stands for rare large differences that no item has shown. For values
    of 0 and 1 the ends are those of Clopper and Pearson.

    Args:
        values: `[N]` numbers; larger ones than `bound` widen the bound to themselves.
        bound: Largest possible absolute value.
        confidence: Coverage.
        seed: Seed of the 4,000 draws of weights.

    Returns:
        The interval, inside ± bound.

    Raises:
        TypeError: As for `as_values`.
        MetroFastError: As for `as_values`, or if an argument is out of range.

    Example:
        >>> low, high = bounded_mean_interval([0.0] * 368)  # P(no event | rate 1 %) is 2.5 %
        >>> round(low, 3), round(high, 3)
        (-0.01, 0.01)
    """
    x = as_values(np.atleast_2d(np.asarray(values)))[0]
    if not (math.isfinite(bound) and bound > 0):
        raise MetroFastError(f"bound is {bound}, expected a positive number")
    normal_quantile(confidence)
    bound = max(bound, float(np.abs(x).max()))
    # The weights of equal numbers are added: their sum is gamma distributed.
    levels, counts = np.unique(x.round(12), return_counts=True)
    sums, weight, last = _weighted_sums(levels, counts, seed)
    tail = 0.5 - confidence / 2
    return Interval(
        float(np.quantile((sums - bound * last) / weight, tail)),
        float(np.quantile((sums + bound * last) / weight, 1 - tail)),
    )


def _weighted_sums(
    levels: NDArray[np.float64], counts: NDArray[np.intp], seed: int
) -> tuple[NDArray[np.float64], ...]:
    """`[draws]` each: Σ w_i x_i, the sum of all weights, and the weight of the number added."""
    generator = np.random.default_rng(seed)
    last = generator.standard_exponential(_DRAWS)
    sums, weight = np.zeros(_DRAWS), last.copy()
    for level, count in zip(levels, counts, strict=True):
        drawn = generator.standard_gamma(float(count), _DRAWS)
        sums += level * drawn
        weight += drawn
    return sums, weight, last


def same_cells(
    first: ArrayLike, second: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The values of two models.

    Raises:
        TypeError: As for `as_values`.
        MetroFastError: If their shapes differ.
    """
    a, b = as_values(first), as_values(second)
    if a.shape != b.shape:
        raise MetroFastError(
            f"the shapes are {a.shape} and {b.shape}, expected the same instructions x items"
        )
    return a, b
