"""The interval of any metric, and the paired test of two models by it.

`parts` is always what `Metric.parts` gives: `[N, k]`, what each answer adds. The metric of a
resample is computed from the sums of its parts, so it is the metric itself, not a mean of items.
"""

import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metro_fast._extras import require
from metro_fast.errors import MetroFastError
from metro_fast.robustness.statistics import (
    Interval,
    mcnemar_exact,
    normal_quantile,
    wilson_ends,
)
from metro_fast.scoring.metrics import Metric

__all__ = [
    "PairedTest",
    "bca_levels",
    "draws",
    "group_index",
    "paired_test",
    "score_interval",
    "share_interval",
]

_NUMBERS_AT_ONCE = 1 << 22  # 32 MB of float64
_ROUNDING = 1e-12


class PairedTest(NamedTuple):
    """Two-sided p of two models, and the numbers of items on which each was better."""

    p_value: float
    first_better: int
    second_better: int


def score_interval(
    metric: Metric,
    parts: ArrayLike,
    *,
    groups: Sequence[str] | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Interval of a metric for other items like these.

    A share of right items has Wilson's interval, where items of one group count as the number of
    independent items with the same standard error (Korn and Graubard, Survey Methodology 24, 1998).
    Every other metric has the bootstrap over groups, with percentiles corrected for bias and
    acceleration (BCa; Efron, JASA 82, 1987): of intervals of a macro F1 at 100 items, 6 % were
    below the truth and 1 % above it with plain percentiles, and 2 % each with these. Where
    resamples do not differ, as those of a score of exactly 0 or 1, they say nothing: such a score
    has Wilson's interval for the groups that count in it.

    Args:
        metric: The task's metric.
        parts: `[N, k]`, from `metric.parts`.
        groups: `[N]`, the group of each item. Items of one group are drawn together; by default
            each item is its own group.
        confidence: Coverage of the interval.
        resamples: Number of bootstrap resamples, at least 100.
        seed: Seed of the resamples.

    Returns:
        The interval, inside [0, 1].

    Raises:
        TypeError: If `parts` is not numbers.
        MetroFastError: If `parts` is not 2-D, is empty or not finite, or an argument is out of
            range.
        MissingExtraError: If there are groups and scipy is not installed.

    Example:
        >>> from metro_fast.scoring import Answer, find_metric
        >>> metric = find_metric("tacred_micro_f1")
        >>> answers = [Answer("a", "a", True), Answer("no_relation", "a", False)] * 50
        >>> low, high = score_interval(metric, metric.parts(answers))
        >>> round(low, 1), round(high, 1)
        (0.6, 0.7)
    """
    rows = _checked(parts)
    z = normal_quantile(confidence)
    if resamples < 100:
        raise MetroFastError(f"resamples is {resamples}, expected at least 100")
    membership, count = group_index(groups, len(rows))
    if metric.binary:
        return _share_interval(rows[:, 0], membership, count, z)
    sums = np.zeros((count, rows.shape[1]))
    np.add.at(sums, membership, rows)
    value, generator = float(metric.value(rows.sum(0))), np.random.default_rng(seed)
    values = np.concatenate(
        [
            metric.value(draws(generator, number, count) @ sums)
            for number in _blocks(resamples, count)
        ]
    )
    if value in (0.0, 1.0) or np.ptp(values) < _ROUNDING:
        return wilson_ends(value, max(int(sums.any(1).sum()), 1), z)
    influence = np.zeros(count)
    np.add.at(influence, membership, metric.item_values(rows) - value)
    low, high = np.quantile(values, bca_levels(value, values, influence, z))
    return Interval(float(low), float(high))


def paired_test(
    metric: Metric,
    parts_a: ArrayLike,
    parts_b: ArrayLike,
    *,
    groups: Sequence[str] | None = None,
    swaps: int = 9_999,
    seed: int = 0,
) -> PairedTest:
    """Test whether two models on the same items differ in a metric.

    For a share of right items without groups this is McNemar's exact test. Otherwise it is
    approximate randomization (Noreen, Computer-Intensive Methods for Testing Hypotheses, 1989; Yeh,
    COLING 2000): if the models are alike, their answers to an item may be exchanged. The answers to
    each group are exchanged with probability ½, `swaps` times, and p = (1 + the number of
    differences of the metric that are at least as large) / (1 + swaps).

    Args:
        metric: The task's metric.
        parts_a: `[N, k]`, from `metric.parts` of the first model.
        parts_b: `[N, k]`, of the second model, on the same items in the same order.
        groups: As in `score_interval`; the answers to a group are exchanged together.
        swaps: Number of random exchanges of answers.
        seed: Seed of the exchanges.

    Returns:
        p, and the numbers of items on which the first and the second model were better: those whose
        exchange would change the metric, to first order, to the disadvantage of that model.

    Raises:
        TypeError: If the parts are not numbers.
        MetroFastError: If the parts are not 2-D, are empty or not finite, their shapes differ, or
            an argument is out of range.
        MissingExtraError: If the test is McNemar's and scipy is not installed.

    Example:
        >>> from metro_fast.scoring import Answer, find_metric
        >>> metric = find_metric("token_f1")
        >>> first = metric.parts([Answer("the red cat", "red cat", False)] * 8)
        >>> second = metric.parts([Answer("the red cat", "red dog", False)] * 8)
        >>> test = paired_test(metric, first, second)
        >>> round(test.p_value, 2), test.first_better, test.second_better
        (0.01, 8, 0)
    """
    a, b = _checked(parts_a), _checked(parts_b)
    if a.shape != b.shape:
        raise MetroFastError(
            f"the parts have shapes {a.shape} and {b.shape}, expected the same items"
        )
    if swaps < 99:
        raise MetroFastError(f"swaps is {swaps}, expected at least 99")
    membership, count = group_index(groups, len(a))
    # Both models have the same slopes, so that an item's difference is one of its answers.
    leads = (a - b) @ metric.gradient(a.sum(0) + b.sum(0)) * len(a)
    better = int((leads > 1e-9).sum()), int((leads < -1e-9).sum())
    if metric.binary and count == len(a):
        return PairedTest(mcnemar_exact(a[:, 0], b[:, 0]).p_value, *better)
    differences = np.zeros((count, a.shape[1]))
    np.add.at(differences, membership, b - a)
    # Exchanging equal answers changes nothing.
    differences = differences[differences.any(1)]
    generator = np.random.default_rng(seed)
    # Differences equal to the observed one count, so rounding must not separate them from it.
    observed = abs(float(metric.value(a.sum(0)) - metric.value(b.sum(0)))) - _ROUNDING
    hits = 0
    for number in _blocks(swaps, len(differences)):
        exchanged = generator.integers(0, 2, (number, len(differences)), dtype=np.int8)
        shift = exchanged.astype(np.float64) @ differences
        gaps = np.abs(metric.value(a.sum(0) + shift) - metric.value(b.sum(0) - shift))
        hits += int((gaps >= observed).sum())
    return PairedTest((hits + 1) / (swaps + 1), *better)


def share_interval(
    right: ArrayLike, *, groups: Sequence[str] | None = None, confidence: float = 0.95
) -> Interval:
    """Wilson's interval of a share, where items of one group count as fewer independent ones.

    Args:
        right: `[N]`, 0 or 1.
        groups: `[N]`, the group of each item; by default each item is its own group.
        confidence: Coverage of the interval.

    Returns:
        The interval, inside [0, 1].

    Raises:
        MetroFastError: If there are no items or other values, or an argument is out of range.
        MissingExtraError: If there are groups and scipy is not installed.

    Example:
        >>> low, high = share_interval([1, 0] * 50)
        >>> round(low, 3), round(high, 3)
        (0.404, 0.596)
    """
    values = np.asarray(right, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise MetroFastError(f"right has shape {values.shape}, expected [items] with at least one")
    membership, count = group_index(groups, len(values))
    return _share_interval(values, membership, count, normal_quantile(confidence))


def group_index(groups: Sequence[str] | None, count: int) -> tuple[NDArray[np.intp], int]:
    """The group number of every item, and the number of groups."""
    if groups is None:
        return np.arange(count), count
    if len(groups) != count:
        raise MetroFastError(f"{len(groups)} groups for {count} items, expected one per item")
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    return index.reshape(-1), len(names)


def bca_levels(
    value: float, values: NDArray[np.float64], influence: NDArray[np.float64], z: float
) -> list[float]:
    """The levels of the quantiles of resampled values that are the ends of a BCa interval."""
    normal = NormalDist()
    below = float((values < value - _ROUNDING).mean() + (values <= value + _ROUNDING).mean()) / 2
    bias = normal.inv_cdf(min(max(below, 1 / len(values)), 1 - 1 / len(values)))
    square = float((influence**2).sum())
    acceleration = float((influence**3).sum()) / (6 * square**1.5) if square else 0.0
    shifted = [bias - z, bias + z]
    return [normal.cdf(bias + s / max(1 - acceleration * s, _ROUNDING)) for s in shifted]


def _share_interval(
    right: NDArray[np.float64], membership: NDArray[np.intp], count: int, z: float
) -> Interval:
    """Wilson's interval of a share; items of one group count as fewer independent ones."""
    total = len(right)
    if not np.isin(right, (0, 1)).all():
        raise MetroFastError("a share of right items needs 0 or 1 for each, but there are others")
    share = float(right.mean())
    if count == total:
        return wilson_ends(share, total, z)
    if share in (0.0, 1.0) or count < 2:
        return wilson_ends(share, count, z)
    deviations = np.bincount(membership, weights=right - share, minlength=count)
    variance = count / (count - 1) * float((deviations**2).sum()) / total**2
    # Few groups leave their variance uncertain: Student's quantile in place of the normal one.
    confidence = math.erf(z / math.sqrt(2))
    student = float(require("scipy.special", "eval").stdtrit(count - 1, 0.5 + confidence / 2))
    independent = share * (1 - share) / max(variance, 1e-300) * (z / student) ** 2
    return wilson_ends(share, min(independent, total), z)


def _checked(parts: ArrayLike) -> NDArray[np.float64]:
    rows = np.asarray(parts)
    if rows.dtype.kind not in "biuf":
        raise TypeError(f"parts has dtype {rows.dtype}, expected what Metric.parts gives")
    if rows.ndim != 2 or len(rows) == 0:
        raise MetroFastError(
            f"parts has shape {rows.shape}, expected [items, columns] with at least 1 item"
        )
    if not np.isfinite(rows).all():
        raise MetroFastError("parts has NaN or infinite numbers, expected finite ones")
    return rows.astype(np.float64)


def _blocks(total: int, columns: int) -> Iterator[int]:
    """Sizes that add up to `total`, each with at most `_NUMBERS_AT_ONCE` numbers if it can."""
    size = max(1, _NUMBERS_AT_ONCE // max(columns, 1))
    for start in range(0, total, size):
        yield min(size, total - start)


def draws(generator: np.random.Generator, number: int, count: int) -> NDArray[np.float64]:
    """`[number, count]`: how often each of `count` groups is among `count` random ones."""
    drawn = generator.integers(count, size=(number, count)) + count * np.arange(number)[:, None]
    times = np.bincount(drawn.reshape(-1), minlength=number * count)
    return times.reshape(number, count).astype(np.float64)
