"""The spread over instructions that the wording causes, and how it differs between two models."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metro_fast._extras import require
from metro_fast.errors import MetroFastError
from metro_fast.robustness.paired import same_cells
from metro_fast.robustness.resampling import group_index
from metro_fast.robustness.statistics import Interval, as_values, normal_quantile

__all__ = ["Spread", "SpreadDifference", "spread_difference", "wording_spread"]


class Spread(NamedTuple):
    """The standard deviation of the instructions' true means, in the metric's unit.

    `sigma` has the noise of a finite set of items removed and is 0 where that explains everything;
    `raw` is the standard deviation (ddof 1) of the observed means, and `noise` what it would be on
    average if the instructions were interchangeable.
    """

    sigma: float
    interval: Interval
    raw: float
    noise: float


class SpreadDifference(NamedTuple):
    """The second model's sigma minus the first one's."""

    difference: float
    interval: Interval


def wording_spread(
    values: ArrayLike, *, groups: Sequence[str] | None = None, confidence: float = 0.95
) -> Spread:
    """How much the wording moves the metric, with an interval.

    In a two-way analysis of variance of P instructions by N items, raw² / noise² is
    1 + σ² / noise² times an F variable of P - 1 and (P - 1)(G - 1) degrees, G the number of
    independent items or groups; the ends of σ are solved from its quantiles. noise² is
    Σ_p G/(G-1) Σ_g (Σ_{i in g} e_ip)² / N² / (P - 1), with e the two-way residuals: for groups of
    one item each this is MS_res / N. σ alone is not evidence: it is 0 in about half of all runs
    with interchangeable instructions, and positive in the others.

    Args:
        values: `[P, N]`, P >= 2, N >= 2.
        groups: `[N]`, the group of each item; by default each item is its own group.
        confidence: Coverage of the interval.

    Returns:
        Sigma with its interval, and the observed spread and its noise.

    Raises:
        TypeError: As for `as_values`.
        MetroFastError: As for `as_values`, or if there are fewer than two instructions or groups.
        MissingExtraError: If scipy is not installed.

    Example:
        >>> import numpy as np
        >>> level = np.repeat([0.5, 0.6, 0.7, 0.8], 400).reshape(4, 400)
        >>> spread = wording_spread(np.random.default_rng(0).random((4, 400)) < level)
        >>> round(spread.sigma, 2), round(spread.interval.low, 2), round(spread.interval.high, 2)
        (0.14, 0.08, 0.53)
    """
    x = as_values(values)
    prompts, items = x.shape
    membership, count = group_index(groups, items)
    if prompts < 2 or count < 2:
        raise MetroFastError(
            f"{prompts} instructions and {count} independent items, but a spread needs at least 2 "
            "of each"
        )
    normal_quantile(confidence)
    raw, noise = x.mean(1).std(ddof=1), math.sqrt(_noise_square(x, membership, count))
    if noise == 0:
        return Spread(float(raw), _unseen_spread(float(raw), prompts, count, confidence), raw, 0.0)
    # The functions behind scipy.stats: importing that takes 1.7 s, and each of its quantiles 1 ms.
    quantile = require("scipy.special", "eval").fdtri
    degrees = prompts - 1, (prompts - 1) * (count - 1)
    ratio = (raw / noise) ** 2
    low, high = (
        noise * math.sqrt(max(0.0, ratio / float(quantile(*degrees, level)) - 1))
        for level in (0.5 + confidence / 2, 0.5 - confidence / 2)
    )
    sigma = math.sqrt(max(0.0, raw**2 - noise**2))
    return Spread(sigma, Interval(low, high), float(raw), noise)


def spread_difference(
    first: ArrayLike,
    second: ArrayLike,
    *,
    groups: Sequence[str] | None = None,
    confidence: float = 0.95,
) -> SpreadDifference:
    """Which of two models the wording moves more, on the same instructions and items.

    Two intervals hold at once, each with half of the error, and their intersection is returned. One
    combines those of the two sigmas as if they were independent (MOVER: Zou and Donner, Statistics
    in Medicine 27, 2008), which is wide where few instructions are given. The other uses that a
    standard deviation is a norm: two sigmas differ by at most the sigma of the differences between
    the models, which is small where both fail under the same wordings.

    Args:
        first: `[P, N]`, P >= 2, N >= 2.
        second: `[P, N]`.
        groups: As in `wording_spread`.
        confidence: Coverage of the interval.

    Returns:
        The difference of the sigmas, second minus first, and its interval.

    Raises:
        TypeError: As for `as_values`.
        MetroFastError: If the shapes differ, or as for `wording_spread`.
        MissingExtraError: If scipy is not installed.

    Example:
        >>> same = [[1, 0, 1, 1] * 200, [1, 0, 0, 1] * 200]
        >>> difference, interval = spread_difference(same, same)
        >>> difference, interval.high < 0.01
        (0.0, True)
    """
    a, b = same_cells(first, second)
    half = 0.5 + confidence / 2
    one, two = (wording_spread(x, groups=groups, confidence=half) for x in (a, b))
    between = wording_spread(b - a, groups=groups, confidence=half).interval.high
    difference = two.sigma - one.sigma
    low = difference - math.hypot(
        two.sigma - two.interval.low, max(0.0, one.interval.high - one.sigma)
    )
    high = difference + math.hypot(
        max(0.0, two.interval.high - two.sigma), one.sigma - one.interval.low
    )
    # The estimate itself stays inside, also where one of the two bounds is beyond it.
    low = min(difference, max(low, -between))
    high = max(difference, min(high, between))
    return SpreadDifference(difference, Interval(low, high))


def _noise_square(x: NDArray[np.float64], membership: NDArray[np.intp], count: int) -> float:
    """The square of the raw standard deviation that instructions alike have on average."""
    prompts, items = x.shape
    residual = x - x.mean(0)
    residual -= residual.mean(1, keepdims=True)
    sums = np.stack([np.bincount(membership, weights=row, minlength=count) for row in residual])
    scale = count / (count - 1) / (items * items) / (prompts - 1)
    return float((sums**2).sum() * scale)


def _unseen_spread(raw: float, prompts: int, count: int, confidence: float) -> Interval:
    """The interval where no item's answers depend on the wording beyond a constant shift.

    Up to a share u = 1 - (1 - confidence)/2 ^ (1/G) of all items may do so unseen, and instructions
    whose values differ by at most u have a standard deviation of at most u/2 √(P/(P-1)).
    """
    unseen = 1 - (0.5 - confidence / 2) ** (1 / count)
    most = unseen / 2 * math.sqrt(prompts / (prompts - 1))
    return Interval(max(0.0, raw - most), raw + most)
