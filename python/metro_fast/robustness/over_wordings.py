"""Numbers over the wordings of one task by their published definitions."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metro_fast.errors import MetroFastError
from metro_fast.robustness.resampling import group_index

__all__ = [
    "LEVELS",
    "OverWordings",
    "combined_score",
    "drop_rate",
    "honest_worst",
    "over_wordings",
]

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
"""The quantiles that PromptEval reports (Polo et al., arXiv 2405.17202)."""
_HALVES = 50


class OverWordings(NamedTuple):
    """Saturation, combined performance score, drop rates and quantiles of one task.

    Attributes:
        saturation: 1 - (MaxP - AvgP), with MaxP the best and AvgP the mean value.
        cps: The combined performance score, saturation · MaxP (Mizrahi et al., arXiv 2401.00595).
        drop_rate: PromptBench's performance drop rate of the mean from the best wording (Zhu et
            al., arXiv 2306.04528), 1 - AvgP / MaxP; None if the best is 0.
        worst_drop_rate: The same of the worst wording.
        quantiles: The 5, 25, 50, 75 and 95 % quantiles over wordings.
        true_quantiles: The same with the noise of a finite set of items removed: every value moved
            to the mean by sigma / raw standard deviation. None if sigma is not known.
    """

    saturation: float
    cps: float
    drop_rate: float | None
    worst_drop_rate: float | None
    quantiles: tuple[float, ...]
    true_quantiles: tuple[float, ...] | None


def over_wordings(
    values: ArrayLike, *, sigma: float | None = None, raw: float | None = None
) -> OverWordings:
    """The numbers over wordings.

    Args:
        values: `[P]`, the metric under each wording, from 0 to 1.
        sigma: The noise-corrected standard deviation, from `wording_spread`.
        raw: The observed one, from the same.

    Returns:
        The numbers.

    Raises:
        MetroFastError: If there are no values, or one is not from 0 to 1.

    Example:
        >>> numbers = over_wordings([0.5, 0.6, 0.7])
        >>> round(numbers.saturation, 3), round(numbers.cps, 3), round(numbers.worst_drop_rate, 3)
        (0.9, 0.63, 0.286)
    """
    x = _shares(values)
    best, mean = float(x.max()), float(x.mean())
    saturation = 1 - (best - mean)
    corrected = None
    if sigma is not None and raw is not None:
        # Values that do not differ have no noise to remove.
        kept = sigma / raw if raw > 0 else 1.0
        corrected = _quantiles(mean + kept * (x - mean))
    return OverWordings(
        saturation=saturation,
        cps=combined_score(best, mean),
        drop_rate=drop_rate(mean, best),
        worst_drop_rate=drop_rate(float(x.min()), best),
        quantiles=_quantiles(x),
        true_quantiles=corrected,
    )


def combined_score(best: float, mean: float) -> float:
    """The combined performance score of Mizrahi et al., (1 - (MaxP - AvgP)) · MaxP.

    Args:
        best: MaxP, the best value over wordings.
        mean: AvgP, the mean one.

    Returns:
        The score, from 0 to 1.

    Example:
        >>> round(combined_score(0.8, 0.6), 3)
        0.64
    """
    return (1 - (best - mean)) * best


def drop_rate(value: float, original: float) -> float | None:
    """Performance drop rate: the share of the original value that is lost.

    Args:
        value: The metric of what was changed.
        original: The metric before.

    Returns:
        1 - value / original, negative for a gain; None if the original is 0.

    Example:
        >>> drop_rate(0.4, 0.8)
        0.5
    """
    return None if original == 0 else float(1 - value / original)


def honest_worst(values: ArrayLike, *, groups: Sequence[str] | None = None, seed: int = 0) -> float:
    """The value of the worst wording, found on one half of the items and measured on the other.

    The lowest of P observed values is too low, since it is the one with the worst luck: of twenty
    wordings alike at 100 items it is 9 points below the truth. The mean over both directions of 50
    random halvings has no such luck; it is about the wording that half as many items would call the
    worst.

    Args:
        values: `[P, N]`, `Metric.item_values` under each wording.
        groups: `[N]`, the group of each item; a group is in one half.
        seed: Seed of the halvings.

    Returns:
        The mean value.

    Raises:
        TypeError: As for `numpy.asarray`.
        MetroFastError: If there are fewer than two items or groups.

    Example:
        >>> honest_worst([[1, 1, 1, 1], [0, 0, 0, 0]])
        0.0
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 2 or x.shape[0] == 0:
        raise MetroFastError(f"values has shape {x.shape}, expected [instructions, items]")
    membership, count = group_index(groups, x.shape[1])
    if count < 2:
        raise MetroFastError("one independent item cannot be halved; give at least 2 items")
    generator, found = np.random.default_rng(seed), []
    for _ in range(_HALVES):
        chosen = np.zeros(count, bool)
        chosen[generator.permutation(count)[: count // 2]] = True
        half = chosen[membership]
        ours, theirs = x[:, half].mean(1), x[:, ~half].mean(1)
        found += [theirs[ours.argmin()], ours[theirs.argmin()]]
    return float(np.mean(found))


def _shares(values: ArrayLike) -> NDArray[np.float64]:
    x = np.asarray(values, dtype=np.float64).reshape(-1)
    if x.size == 0:
        raise MetroFastError("there are no values, expected one for each wording")
    if not ((x >= 0) & (x <= 1)).all():
        raise MetroFastError(f"the values are {x.tolist()}, expected numbers from 0 to 1")
    return x


def _quantiles(x: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(q) for q in np.quantile(x, LEVELS))
