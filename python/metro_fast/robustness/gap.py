"""The gap between seen and unseen instructions of one task."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metro_fast._extras import require
from metro_fast.errors import MetroFastError
from metro_fast.robustness.resampling import group_index
from metro_fast.robustness.scale import cohens_h
from metro_fast.robustness.statistics import Interval, as_values, normal_quantile

__all__ = ["SeenGap", "seen_gap"]

_MIN_FOR_TEST = 5


class SeenGap(NamedTuple):
    """Mean on seen minus unseen instructions; `p_value` is None where there is no test.

    `standard_error` and `degrees_of_freedom` are those of the interval and of p.
    """

    seen_mean: float
    unseen_mean: float
    gap: float
    interval: Interval
    seen_count: int
    unseen_count: int
    p_value: float | None
    standard_error: float
    degrees_of_freedom: float

    @property
    def effect_size(self) -> float:
        """Cohen's h of the two means, positive where seen instructions do better."""
        return cohens_h(self.unseen_mean, self.seen_mean)

    @property
    def note(self) -> str:
        """The numbers of instructions behind the interval, and why there is no test if so."""
        counts = f"{self.seen_count} seen and {self.unseen_count} unseen instructions"
        if self.p_value is not None:
            return counts
        if self.seen_count == self.unseen_count == 1:
            return (
                f"{counts}: the interval is about other items, but says nothing about other "
                "wordings, and there is no test"
            )
        return (
            f"{counts}: fewer than {_MIN_FOR_TEST} per side, so there is an interval, but no test"
        )


class _Part(NamedTuple):
    """One addend of a variance, with its degrees of freedom."""

    variance: float
    degrees: float


def seen_gap(
    values: ArrayLike,
    seen: Sequence[bool],
    *,
    groups: Sequence[str] | None = None,
    confidence: float = 0.95,
) -> SeenGap:
    """Gap between seen and unseen instructions, for other items and other wordings like these.

    G = mean over seen a_p - mean over unseen a_p. Instructions are crossed with items, and both are
    samples: Var(G) = Σ_side S²_side / P_side + S²_d / N - Σ_side MS_side / (N P_side), with S² of a
    side the variance of its instructions' means, S²_d that of the items' own gaps, and MS_side the
    residual mean square of its two-way table, whose noise the first two parts both contain. The
    degrees of freedom are Satterthwaite's (Biometrics Bulletin 2, 1946), and the sides may have
    different spreads, as in Welch's test. A side with one instruction has the other side's
    variance, and one instruction on each side has none. p is that of the same t. With groups of
    items, S²_d and MS count groups.

    A two-level bootstrap, which counts the noise of the items at both levels, has intervals that
    are 1.1 to 1.6 times as wide, and found a gap of 5 points with 20 wordings and 100 items in 17 %
    of runs where this finds it in 59 %.

    Args:
        values: `[P, N]`, 0 or 1, or any metric's `item_values`; N >= 2.
        seen: `[P]`, whether the instruction was seen in training; both kinds must occur.
        groups: `[N]`, the group of each item; by default each item is its own group.
        confidence: Coverage of the interval.

    Returns:
        Means, gap, interval, counts, and p if there are five or more instructions per side.

    Raises:
        TypeError: As for `as_values`.
        MetroFastError: If the lengths do not agree, one kind is missing, there are fewer than two
            independent items, or an argument is out of range.
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
    membership, count = group_index(groups, x.shape[1])
    if count < 2:
        raise MetroFastError(
            "there is one independent item, but an interval needs at least 2 items or groups"
        )
    normal_quantile(confidence)
    sides = x[is_seen], x[~is_seen]
    seen_mean, unseen_mean = (float(side.mean()) for side in sides)
    error, degrees = _error_of(sides, membership, count)
    gap = seen_mean - unseen_mean
    special = require("scipy.special", "eval")
    half = error * float(special.stdtrit(degrees, 0.5 + confidence / 2))
    counts = len(sides[0]), len(sides[1])
    p = None
    if min(counts) >= _MIN_FOR_TEST:
        # Without any variance, a gap is certain, and there being none is too.
        p = float(2 * special.stdtr(degrees, -abs(gap) / error)) if error else float(gap == 0)
    ends = Interval(gap - half, gap + half)
    return SeenGap(seen_mean, unseen_mean, gap, ends, *counts, p, error, degrees)


def _error_of(
    sides: tuple[NDArray[np.float64], NDArray[np.float64]],
    membership: NDArray[np.intp],
    count: int,
) -> tuple[float, float]:
    """Standard error of the gap and its degrees of freedom."""
    own_gaps = sides[0].mean(0) - sides[1].mean(0)
    by_items = _Part(_mean_variance(own_gaps[None], membership, count), count - 1)
    wordings = _wording_parts(sides)
    both = [
        _Part(
            -_mean_variance(_residuals(side), membership, count) / (len(side) - 1) / len(side),
            (len(side) - 1) * (count - 1),
        )
        for side in sides
        if len(side) > 1
    ]
    parts = [by_items, *wordings, *both]
    total = sum(part.variance for part in parts)
    # Neither can be below 0, so that the whole is at least each of the two alone.
    of_wordings = sum(part.variance for part in wordings)
    if total < max(by_items.variance, of_wordings):
        parts = [by_items] if by_items.variance >= of_wordings else wordings
        total = sum(part.variance for part in parts)
    if total <= 0:
        return 0.0, count - 1
    squares = sum(part.variance**2 / part.degrees for part in parts)
    return math.sqrt(total), max(1.0, total**2 / squares)


def _wording_parts(sides: tuple[NDArray[np.float64], NDArray[np.float64]]) -> list[_Part]:
    """For each side, the variance of its mean over other draws of as many instructions."""
    variances = [side.mean(1).var(ddof=1) if len(side) > 1 else None for side in sides]
    parts = []
    for side, own, other, opposite in zip(
        sides, variances, variances[::-1], sides[::-1], strict=True
    ):
        if own is not None:
            parts.append(_Part(float(own) / len(side), len(side) - 1))
        elif other is not None:
            parts.append(_Part(float(other), len(opposite) - 1))
    return parts


def _residuals(side: NDArray[np.float64]) -> NDArray[np.float64]:
    """`[P, N]`: what the two-way table of a side leaves."""
    residual = side - side.mean(0)
    centered: NDArray[np.float64] = residual - residual.mean(1, keepdims=True)
    return centered


def _mean_variance(x: NDArray[np.float64], membership: NDArray[np.intp], count: int) -> float:
    """Sum over rows of the estimated variance of a row's mean, whose groups are independent."""
    centered = x - x.mean(1, keepdims=True)
    sums = np.stack([np.bincount(membership, weights=row, minlength=count) for row in centered])
    return float((sums**2).sum()) * count / (count - 1) / membership.size**2
