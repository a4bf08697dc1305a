"""Intervals of any number that is computed from metrics, such as a difference of macro F1."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metro_fast.errors import MetroFastError
from metro_fast.robustness.resampling import bca_levels, draws, group_index
from metro_fast.robustness.statistics import Interval, normal_quantile
from metro_fast.scoring.metrics import Metric

__all__ = ["resampled_interval"]


def resampled_interval(
    metric: Metric,
    parts: Sequence[ArrayLike],
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    *,
    groups: Sequence[str] | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Bootstrap over items of a number of several cells, by the metric itself.

    The items, or their groups, are drawn again for all cells together, the metric of each cell is
    computed from the sums of its parts, and the statistic from the metrics; the percentiles are
    corrected for bias and acceleration (BCa; Efron, JASA 82, 1987), by leaving out one group at a
    time. Where resamples do not differ, up to 1 - (error / 2)^(1 / groups) of all items may be
    otherwise unseen, and the interval reaches as far on both sides.

    It is for means, differences and quantiles. A standard deviation over cells of resamples has the
    noise of the items twice: `wording_spread` takes any metric's `item_values`.

    Args:
        metric: The task's metric.
        parts: `[N, k]` of each of P cells, from `metric.parts`, over the same items.
        statistic: From `[..., P]` metrics to `[...]` numbers, such as `lambda v: v.mean(-1)`.
        groups: `[N]`, the group of each item; by default each item is its own group.
        confidence: Coverage of the interval.
        resamples: Number of resamples, at least 100.
        seed: Seed of the resamples.

    Returns:
        The interval.

    Raises:
        MetroFastError: If there are no cells, their shapes differ, or an argument is out of range.

    Example:
        >>> from metro_fast.scoring import Answer, find_metric
        >>> metric = find_metric("tacred_micro_f1")
        >>> first = metric.parts([Answer("a", "a", True), Answer("a", "no_relation", False)] * 50)
        >>> second = metric.parts([Answer("a", "a", True), Answer("a", "a", True)] * 50)
        >>> low, high = resampled_interval(metric, [first, second], lambda v: v[..., 1] - v[..., 0])
        >>> round(low, 1), round(high, 1)
        (0.3, 0.4)
    """
    rows = [np.asarray(part, dtype=np.float64) for part in parts]
    z = normal_quantile(confidence)
    shapes = {row.shape for row in rows}
    if len(shapes) != 1 or rows[0].ndim != 2 or rows[0].shape[0] == 0:
        raise MetroFastError(
            f"the parts have shapes {sorted(shapes)}, expected [items, columns] of the same items"
        )
    if resamples < 100:
        raise MetroFastError(f"resamples is {resamples}, expected at least 100")
    membership, count = group_index(groups, len(rows[0]))
    if count < 2:
        raise MetroFastError("all items are of one group; a bootstrap needs at least 2 groups")
    sums = np.zeros((len(rows), count, rows[0].shape[1]))
    for row, each in zip(rows, sums, strict=True):
        np.add.at(each, membership, row)

    def of(totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """`[R]` numbers of `[P, R, k]` sums."""
        metrics = np.stack([metric.value(part) for part in totals], axis=-1)
        return np.asarray(statistic(metrics), dtype=np.float64)

    whole = sums.sum(1, keepdims=True)
    value = float(of(whole)[0])
    weights = draws(np.random.default_rng(seed), resamples, count)
    drawn = of(weights @ sums)
    if np.ptp(drawn) < 1e-12:
        unseen = 1 - (0.5 - confidence / 2) ** (1 / count)
        return Interval(value - unseen, value + unseen)
    without = of(whole - sums)
    low, high = np.quantile(drawn, bca_levels(value, drawn, without.mean() - without, z))
    return Interval(float(low), float(high))
