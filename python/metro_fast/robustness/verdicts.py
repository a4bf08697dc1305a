"""Verdicts on the second of two models: on its mean, its spread and its single wordings.

The three are judged apart, since a mean that is better by three points can hide one wording of
twenty that lost forty.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

from metro_fast.errors import MetroFastError
from metro_fast.robustness.paired_wordings import ERROR, InstructionComparison, lost
from metro_fast.robustness.statistics import Interval

__all__ = [
    "AS_ROBUST",
    "BETTER",
    "UNDECIDED",
    "WORSE",
    "Verdicts",
    "fewest_items",
    "judge_interval",
    "judge_wordings",
    "needed_items",
]

AS_ROBUST, BETTER, WORSE, UNDECIDED = "as robust", "better", "worse", "undecided"

_LEVEL = 0.975
"""One-sided: the ends of a 95 % interval are two tests at 2.5 % each."""
_POWER = 0.9


class Verdicts(NamedTuple):
    """`as robust`, `better`, `worse` or `undecided`, of the mean, the spread and the wordings.

    `spread` is None for one instruction.
    """

    mean: str
    spread: str | None
    wordings: str

    @property
    def overall(self) -> str:
        """One verdict of the three.

        `worse` if any of them is. `as robust` if mean and spread are, and no wording is shown to
        have lost. `better` if the mean is and nothing is worse, or if the mean is as robust and the
        spread smaller. `undecided` otherwise.
        """
        if WORSE in self:
            return WORSE
        if self.mean == AS_ROBUST and self.spread in (AS_ROBUST, None):
            return AS_ROBUST
        if self.mean == BETTER or (self.mean == AS_ROBUST and self.spread == BETTER):
            return BETTER
        return UNDECIDED


def judge_interval(
    interval: Interval,
    margin: float,
    *,
    equal_within: float | None = None,
    enough: bool = True,
    more_is: str = BETTER,
) -> str:
    """The verdict of one difference, second minus first.

    Args:
        interval: Its 95 % interval.
        margin: Differences up to this count as equal.
        equal_within: The margin within which equality is shown, if that is not by the interval.
        enough: Whether there are `fewest_items` at least; `as robust` is not said below.
        more_is: `better` or `worse`: what a positive difference is.

    Returns:
        The verdict.
    """
    shown = max(-interval.low, interval.high) if equal_within is None else equal_within
    if enough and shown <= margin:
        return AS_ROBUST
    less_is = WORSE if more_is == BETTER else BETTER
    if interval.low > 0:
        return more_is
    return less_is if interval.high < 0 else UNDECIDED


def judge_wordings(
    rows: Sequence[InstructionComparison], margin: float, *, enough: bool = True
) -> str:
    """The verdict of the single wordings.

    Args:
        rows: The comparison under each.
        margin: As for `judge_interval`.
        enough: As for `judge_interval`.

    Returns:
        `worse` if any wording lost (`lost`), `as robust` if every one's interval is inside the
        margin, `better` if none lost and one gained, by Holm's correction, else `undecided`.
    """
    if lost(rows, margin=margin):
        return WORSE
    each = [
        judge_interval(row.interval, margin, equal_within=row.equal_within, enough=enough)
        for row in rows
    ]
    if all(verdict == AS_ROBUST for verdict in each):
        return AS_ROBUST
    gained = any(
        verdict == BETTER and row.adjusted_p < ERROR
        for verdict, row in zip(each, rows, strict=True)
    )
    return BETTER if gained else UNDECIDED


def fewest_items(margin: float) -> int:
    """The number of independent items below which nothing can show equality within a margin.

    A rate of `margin` has no event in N items with a chance of (1 - margin)^N, which is below 2.5 %
    from N = ln .025 / ln(1 - margin) on.

    Args:
        margin: From 0 to 1, without the ends.

    Returns:
        The number.

    Raises:
        MetroFastError: If the margin is out of range.

    Example:
        >>> fewest_items(0.01), fewest_items(0.02)
        (368, 183)
    """
    if not 0 < margin < 1:
        raise MetroFastError(f"margin is {margin}, expected a share between 0 and 1, such as 0.01")
    return math.ceil(math.log(1 - _LEVEL) / math.log1p(-margin))


def needed_items(standard_error: float, items: int, margin: float, *, independent: int) -> int:
    """About how many items would show equality within a margin, if the models are equal.

    N = (z.975 + z.90)² s² / margin², with s² = N · SE² the variance of an item's difference, in
    which the groups are counted: each end of the interval is then inside with a chance of 90 %, and
    both with 80 %. Never fewer than `fewest_items`, which counts groups.

    Args:
        standard_error: That of the mean difference.
        items: Number of items behind it.
        margin: As for `fewest_items`.
        independent: Number of groups, or of items where these are independent.

    Returns:
        The number of items.

    Raises:
        MetroFastError: If the margin is out of range.

    Example:
        >>> needed_items((0.02 / 250) ** 0.5, 250, 0.01, independent=250)  # 2 % discordant items
        2102
    """
    floor = math.ceil(fewest_items(margin) * items / independent)
    z = NormalDist().inv_cdf(_LEVEL) + NormalDist().inv_cdf(_POWER)
    return max(floor, math.ceil(z**2 * items * standard_error**2 / margin**2))
