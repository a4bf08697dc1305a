"""How many more items and wordings a wanted precision needs, from the answers so far."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metro_fast._extras import require
from metro_fast.errors import MetroFastError
from metro_fast.robustness.resampling import group_index
from metro_fast.robustness.statistics import as_values

__all__ = ["Components", "Plan", "plan_budget", "plan_precision", "variance_components"]

_MOST_WORDINGS = 200
_MOST_ITEMS = 1_000_000


class Components(NamedTuple):
    """The variance of one answer's value by its cause, in a table of wordings by items.

    Attributes:
        wording: Variance of the wordings' true means; within each side, if seen and unseen are
            given.
        item: Variance of the items' difficulty; for a gap, that of the items' own gaps.
        both: Variance of a single answer around these, by chance and by the effect of the wording
            on the item.
        sides: 1 for a mean, 2 for a gap of two sides of equally many wordings.
        group_size: Items a group, on average; `item` and `both` are those of groups.
    """

    wording: float
    item: float
    both: float
    sides: int
    group_size: float

    def half_width(self, wordings: int, items: int) -> float:
        """The half width of the 95 % interval, for other items and other wordings like these.

        SE² = sides · (wording / P + both / (P G)) + item / G, with P the wordings of a side and G
        the groups of items; t has Satterthwaite's degrees.

        Args:
            wordings: P, wordings of a side, at least 2.
            items: Number of items, of 2 groups at least.

        Returns:
            The half width, in the metric's unit.

        Raises:
            MetroFastError: If there are too few.
            MissingExtraError: If scipy is not installed.
        """
        groups = items / self.group_size
        if wordings < 2 or groups < 2:
            raise MetroFastError(
                f"{wordings} wordings and {items} items, expected at least 2 and 2 groups"
            )
        parts = (
            (self.sides * self.wording / wordings, self.sides * (wordings - 1)),
            (self.item / groups, groups - 1),
            (
                self.sides * self.both / wordings / groups,
                self.sides * (wordings - 1) * (groups - 1),
            ),
        )
        total = sum(part for part, _ in parts)
        if total == 0:
            return 0.0
        degrees = total**2 / sum(part**2 / free for part, free in parts)
        student = float(require("scipy.special", "eval").stdtrit(degrees, 0.975))
        return math.sqrt(total) * student


class Plan(NamedTuple):
    """A number of wordings (of each side, for a gap) and items.

    `half_width` is the expected one of the 95 % interval, `answers` the number of answers that the
    model gives, and the others what is missing from what there is.
    """

    wordings: int
    items: int
    half_width: float
    answers: int
    more_wordings: int
    more_items: int


def variance_components(
    values: ArrayLike,
    *,
    seen: Sequence[bool] | None = None,
    groups: Sequence[str] | None = None,
) -> Components:
    """The variance by its cause, by the mean squares of a two-way table.

    Args:
        values: `[P, N]`, P >= 2, N >= 2; a gap needs 2 instructions a side.
        seen: `[P]`, whether the instruction was seen: the components are then those of the gap.
        groups: `[N]`, the group of each item.

    Returns:
        The components; estimates below 0 are 0.

    Raises:
        TypeError: As for `as_values`.
        MetroFastError: As for `as_values`, or if there are too few instructions or groups.

    Example:
        >>> table = [[1, 1, 0, 0], [1, 1, 0, 0]]  # the items alone differ
        >>> got = variance_components(table)
        >>> got.wording, round(got.item, 3), got.both
        (0.0, 0.333, 0.0)
    """
    x = as_values(values)
    membership, count = group_index(groups, x.shape[1])
    if count < 2:
        raise MetroFastError("there is one independent item, but a variance needs at least 2")
    # What a group adds to the mean; its own mean, where groups are equally large.
    added = [np.bincount(membership, weights=row, minlength=count) for row in x]
    table = np.stack(added).astype(np.float64) * (count / x.shape[1])
    is_seen = np.ones(len(x), bool) if seen is None else np.asarray(seen, dtype=bool)
    if is_seen.shape != (len(x),):
        raise MetroFastError(
            f"{is_seen.size} seen flags for {len(x)} instructions, expected one each"
        )
    sides = [table] if seen is None else [table[is_seen], table[~is_seen]]
    if min(map(len, sides)) < 2:
        raise MetroFastError(
            "a side has fewer than 2 instructions, but a variance over wordings needs at least 2"
        )
    both = _pooled([(_residual(side), (len(side) - 1) * (count - 1)) for side in sides])
    raw = _pooled([(float(side.mean(1).var(ddof=1)), len(side) - 1) for side in sides])
    own = sides[0].mean(0) - (sides[1].mean(0) if len(sides) == 2 else 0)
    noise = sum(both / len(side) for side in sides)
    return Components(
        max(0.0, raw - both / count),
        max(0.0, float(own.var(ddof=1)) - noise),
        both,
        len(sides),
        x.shape[1] / count,
    )


def plan_precision(components: Components, half_width: float, *, wordings: int, items: int) -> Plan:
    """The fewest answers, with no fewer wordings and items than there are, for a half width.

    Args:
        components: From `variance_components` of what there is.
        half_width: Wanted half width of the 95 % interval, such as 0.02 for two points.
        wordings: How many there are; of each side, for a gap.
        items: How many there are.

    Returns:
        The plan.

    Raises:
        MetroFastError: If the half width is not positive, or 200 wordings and a million items do
            not reach it.
        MissingExtraError: If scipy is not installed.

    Example:
        >>> import numpy as np
        >>> table = np.random.default_rng(0).random((8, 100)) < 0.6
        >>> plan = plan_precision(variance_components(table), 0.02, wordings=8, items=100)
        >>> plan.half_width <= 0.02, plan.more_items > 0
        (True, True)
    """
    if not 0 < half_width < 1:
        raise MetroFastError(f"half_width is {half_width}, expected a share such as 0.02")
    best: Plan | None = None
    for count in range(max(2, wordings), max(_MOST_WORDINGS, wordings) + 1):
        fewest = _fewest_items(components, half_width, count, items)
        if fewest is None:
            continue
        answers = components.sides * count * fewest
        if best is None or answers < best.answers:
            reached = components.half_width(count, fewest)
            best = Plan(count, fewest, reached, answers, count - wordings, fewest - items)
    if best is None:
        raise MetroFastError(
            f"{_MOST_WORDINGS} wordings and {_MOST_ITEMS:,} items do not reach a half width of "
            f"{half_width}; the wordings or items differ too much: ask for a wider one"
        )
    return best


def plan_budget(
    components: Components,
    answers: int,
    *,
    wordings: int = 0,
    items: int = 0,
    most_wordings: int = _MOST_WORDINGS,
    most_items: int = _MOST_ITEMS,
) -> Plan:
    """The wordings and items with the narrowest interval that a number of answers allows.

    Args:
        components: From `variance_components` of what there is.
        answers: Most answers that the model may give, over all wordings and items.
        wordings: How many there are; of each side, for a gap.
        items: How many there are.
        most_wordings: How many there can be; of each side, for a gap.
        most_items: How many there can be.

    Returns:
        The plan; what is missing is 0 where there are more than needed.

    Raises:
        MetroFastError: If there are not two wordings and two groups of items within the limits.
        MissingExtraError: If scipy is not installed.

    Example:
        >>> import numpy as np
        >>> table = np.random.default_rng(0).random((8, 100)) < 0.6
        >>> plan_budget(variance_components(table), 10_000).answers <= 10_000
        True
    """
    fewest = math.ceil(2 * components.group_size)
    best: tuple[float, int, int] | None = None
    for count in range(2, most_wordings + 1):
        number = min(answers // (components.sides * count), most_items)
        if number < fewest:
            break
        width = components.half_width(count, number)
        if best is None or width < best[0]:
            best = width, count, number
    if best is None:
        raise MetroFastError(
            f"{answers} answers, {most_wordings} wordings and {most_items} items do not allow 2 "
            f"wordings of {fewest} items each: allow more"
        )
    width, count, number = best
    total = components.sides * count * number
    return Plan(count, number, width, total, max(0, count - wordings), max(0, number - items))


def _fewest_items(
    components: Components, half_width: float, wordings: int, items: int
) -> int | None:
    """The fewest items, by bisection, since the interval narrows with every item."""
    low = max(items, math.ceil(2 * components.group_size))
    if components.half_width(wordings, low) <= half_width:
        return low
    high = _MOST_ITEMS
    if components.half_width(wordings, high) > half_width:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if components.half_width(wordings, middle) <= half_width:
            high = middle
        else:
            low = middle
    return high


def _residual(side: NDArray[np.float64]) -> float:
    """The residual mean square of a side's table."""
    rest = side - side.mean(0)
    rest -= rest.mean(1, keepdims=True)
    degrees = (len(side) - 1) * (side.shape[1] - 1)
    return float((rest**2).sum() / degrees)


def _pooled(parts: Sequence[tuple[float, int]]) -> float:
    """The mean of variances, weighted by their degrees of freedom."""
    return sum(part * degrees for part, degrees in parts) / sum(degrees for _, degrees in parts)
