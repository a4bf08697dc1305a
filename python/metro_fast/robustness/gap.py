"""The seen/unseen gap of one task, and the paired difference of two models."""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metro_fast._extras import require
from metro_fast.errors import MetroFastError
from metro_fast.robustness.resampling import group_index
from metro_fast.robustness.statistics import Interval, as_values, normal_quantile

__all__ = ["PairedDifference", "SeenGap", "paired_difference", "seen_gap", "std_difference"]

_MIN_FOR_TEST = 5
_MAX_EXACT = 20_000


class SeenGap(NamedTuple):
    """Mean on seen minus unseen instructions; `p_value` is None where there is no test."""

    seen_mean: float
    unseen_mean: float
    gap: float
    interval: Interval
    seen_count: int
    unseen_count: int
    p_value: float | None

    @property
    def note(self) -> str:
        """The numbers of instructions behind the interval, and why there is no test if so."""
        if self.p_value is None:
            return (
                f"{self.seen_count} seen and {self.unseen_count} unseen instructions: "
                f"fewer than {_MIN_FOR_TEST} per side, so there is an interval, but no test"
            )
        return f"{self.seen_count} seen and {self.unseen_count} unseen instructions"


class PairedDifference(NamedTuple):
    """The mean of second minus first over the same cells, with its standard error and interval."""

    mean: float
    standard_error: float
    interval: Interval


def seen_gap(
    values: ArrayLike,
    seen: Sequence[bool],
    *,
    groups: Sequence[str] | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> SeenGap:
    """Gap between seen and unseen instructions with a two-level bootstrap interval.

    G = mean over seen a_p - mean over unseen a_p. Each resample draws groups of items, the same for
    both sides, and instructions within each side. So the interval holds for other items and other
    wordings like these. The deviation of a mean due to the draw of n instructions is multiplied by
    √(n/(n-1)) and by the ratio of Student's quantile to the normal one, because the spread of few
    instructions is itself uncertain (the tests simulate the coverage). The interval is too wide
    where instructions differ little, because the noise of items counts at both levels. A side with
    a single instruction varies only by its items.

    With five or more instructions per side, p permutes the labels seen and unseen over the
    instructions: all permutations up to 20,000, else 9,999 random ones.

    Args:
        values: `[P, N]`, 0 or 1, or any metric's `item_values`.
        seen: `[P]`, whether the instruction was seen in training; both kinds must occur.
        groups: `[N]`, the group of each item. Items of one group are drawn together; by default
            each item is its own group.
        confidence: Coverage of the interval.
        resamples: Number of bootstrap resamples, at least 100.
        seed: Seed of the resamples.

    Returns:
        Means, gap, percentile interval, counts and p.

    Raises:
        TypeError: As for `as_values`.
        MetroFastError: If the lengths do not agree, one kind is missing, or an argument is out of
            range.
        MissingExtraError: If scipy is not installed.

    Example:
        >>> gap = seen_gap([[1, 1, 1, 0], [1, 0, 0, 0]], [True, False])
        >>> gap.gap, gap.p_value
        (0.5, None)
    """
    x = as_values(values)
    is_seen = np.asarray(seen, dtype=bool)
    if is_seen.shape != (len(x),):
        raise MetroFastError(
            f"{is_seen.size} seen flags for {len(x)} instructions, expected one per instruction"
        )
    if is_seen.all() or not is_seen.any():
        raise MetroFastError("a gap needs both seen and unseen instructions; all are of one kind")
    if resamples < 100:
        raise MetroFastError(f"resamples is {resamples}, expected at least 100")
    z = normal_quantile(confidence)
    by_prompt = x.mean(1)
    gap = float(by_prompt[is_seen].mean() - by_prompt[~is_seen].mean())

    generator = np.random.default_rng(seed)
    resampled = _resampled_means(x, groups, resamples, generator)
    degrees = len(x) - 2
    # The spread of few instructions is itself uncertain.
    student = 1.0
    if degrees:
        student = require("scipy.stats", "eval").t.ppf(0.5 + confidence / 2, degrees) / z
    means = []
    for side in (np.flatnonzero(is_seen), np.flatnonzero(~is_seen)):
        drawn = side[generator.integers(len(side), size=(resamples, len(side)))]
        fixed = resampled[:, side].mean(1)
        shift = np.take_along_axis(resampled, drawn, axis=1).mean(1) - fixed
        # The variance of a resampled mean of n values is (n-1)/n of the right one: half for n = 2.
        few_values = math.sqrt(len(side) / max(len(side) - 1, 1))
        means.append(fixed + student * few_values * shift)
    low, high = np.quantile(means[0] - means[1], [0.5 - confidence / 2, 0.5 + confidence / 2])
    few = min(is_seen.sum(), (~is_seen).sum()) < _MIN_FOR_TEST
    return SeenGap(
        float(by_prompt[is_seen].mean()),
        float(by_prompt[~is_seen].mean()),
        gap,
        Interval(float(low), float(high)),
        int(is_seen.sum()),
        int((~is_seen).sum()),
        None if few else _permutation_p(by_prompt, is_seen, generator),
    )


def paired_difference(
    first: ArrayLike,
    second: ArrayLike,
    *,
    groups: Sequence[str] | None = None,
    confidence: float = 0.95,
) -> PairedDifference:
    """Mean difference of two models over the same items and instructions.

    d_i = mean over instructions of x_ip(second) - x_ip(first); groups g of items are independent:
    SE² = G/(G-1) Σ_g (Σ_{i in g} (d_i - d̄))² / N² (Miller, arXiv 2411.00640, with the usual
    correction for few groups; without groups it is var(d)/N). The instructions count as fixed.

    Args:
        first: `[P, N]`, 0 or 1, or any metric's `item_values`.
        second: `[P, N]`.
        groups: `[N]`, the group of each item; by default each item is its own group.
        confidence: Coverage of the normal interval.

    Returns:
        Mean, standard error and interval.

    Raises:
        TypeError: As for `as_values`.
        MetroFastError: If the shapes differ, or there are fewer than two groups.

    Example:
        >>> round(paired_difference([[1, 0, 0, 0]], [[1, 1, 0, 0]]).standard_error, 4)
        0.25
    """
    a, b = _same_cells(first, second)
    difference = (b - a).mean(0)
    membership, count = group_index(groups, a.shape[1])
    if count < 2:
        raise MetroFastError("all items are of one group; a standard error needs at least 2 groups")
    mean = float(difference.mean())
    sums = np.bincount(membership, weights=difference - mean, minlength=count)
    error = math.sqrt(count / (count - 1) * float((sums**2).sum())) / len(difference)
    half = normal_quantile(confidence) * error
    return PairedDifference(mean, error, Interval(mean - half, mean + half))


def std_difference(
    first: ArrayLike,
    second: ArrayLike,
    *,
    groups: Sequence[str] | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> PairedDifference:
    """Difference of the standard deviations over instructions, with a bootstrap over items.

    Args:
        first: `[P, N]`, P >= 2.
        second: `[P, N]`.
        groups: As in `paired_difference`.
        confidence: Coverage of the percentile interval.
        resamples: Number of resamples.
        seed: Seed of the resamples.

    Returns:
        std(second) - std(first), ddof 1, its bootstrap standard error and interval.

    Raises:
        TypeError: As for `as_values`.
        MetroFastError: If the shapes differ, or there is only one instruction.

    Example:
        >>> std_difference([[1, 0], [1, 0]], [[1, 0], [1, 0]]).mean
        0.0
    """
    a, b = _same_cells(first, second)
    if len(a) < 2:
        raise MetroFastError("1 instruction is given, but a spread needs at least 2")
    normal_quantile(confidence)
    # The same seed draws the same items for both, so that the difference is paired.
    spreads = [
        _resampled_means(x, groups, resamples, np.random.default_rng(seed)).std(1, ddof=1)
        for x in (a, b)
    ]
    resampled = spreads[1] - spreads[0]
    low, high = np.quantile(resampled, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return PairedDifference(
        float(b.mean(1).std(ddof=1) - a.mean(1).std(ddof=1)),
        float(resampled.std(ddof=1)),
        Interval(float(low), float(high)),
    )


def _same_cells(
    first: ArrayLike, second: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = as_values(first), as_values(second)
    if a.shape != b.shape:
        raise MetroFastError(
            f"the shapes are {a.shape} and {b.shape}, expected the same instructions x items"
        )
    return a, b


def _resampled_means(
    x: NDArray[np.float64],
    groups: Sequence[str] | None,
    resamples: int,
    generator: np.random.Generator,
) -> NDArray[np.float64]:
    """`[resamples, P]`: means of all instructions on the same resampled groups of items."""
    membership, count = group_index(groups, x.shape[1])
    weights = generator.multinomial(count, np.full(count, 1 / count), size=resamples)
    sums = np.stack([np.bincount(membership, weights=row, minlength=count) for row in x])
    sizes = np.bincount(membership, minlength=count)
    means: NDArray[np.float64] = (weights @ sums.T) / (weights @ sizes)[:, None]
    return means


def _permutation_p(
    means: NDArray[np.float64], is_seen: NDArray[np.bool_], generator: np.random.Generator
) -> float:
    """Two-sided p of the gap under random permutations of the labels seen and unseen."""
    count, size = len(means), int(is_seen.sum())

    def gap_of(seen_sum: NDArray[np.float64]) -> NDArray[np.float64]:
        rest = means.sum() - seen_sum
        gaps: NDArray[np.float64] = np.abs(seen_sum / size - rest / (count - size))
        return gaps

    # Gaps equal to the observed one count, so rounding must not separate them from it.
    observed = gap_of(means[is_seen].sum()) - 1e-12 * max(1.0, float(np.abs(means).max()))
    if math.comb(count, size) <= _MAX_EXACT:
        chosen = np.array(list(combinations(range(count), size)))
        return float((gap_of(means[chosen].sum(1)) >= observed).mean())
    order = generator.permuted(np.tile(means, (9_999, 1)), axis=1)
    hits = int((gap_of(order[:, :size].sum(1)) >= observed).sum())
    return (hits + 1) / 10_000
