"""Items that are right whatever the wording."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from metro_fast.robustness.cells import Cell
from metro_fast.robustness.common_items import item_groups
from metro_fast.robustness.over_wordings import honest_worst
from metro_fast.robustness.resampling import share_interval
from metro_fast.robustness.statistics import Interval

__all__ = ["WorstCase", "worst_case"]


class WorstCase(NamedTuple):
    """The worst case of each item, and of the wordings.

    Attributes:
        always_right: Share of the items that are right under every wording, HELM's worst case of
            each instance (Liang et al., arXiv 2211.09110). It falls with the number of wordings.
        interval: Wilson's 95 % interval of it; items of a group count as fewer.
        ever_right: Share of the items that are right under any wording.
        worst_wording: The value of the worst wording by `honest_worst`; None for one independent
            item.
    """

    always_right: float
    interval: Interval
    ever_right: float
    worst_wording: float | None


def worst_case(cells: Sequence[Cell]) -> WorstCase:
    """The worst case of a task.

    Args:
        cells: Cells of one model on one task, over the same items.

    Returns:
        The shares.

    Raises:
        MissingExtraError: If items have groups and scipy is not installed.
    """
    right = np.array([cell.correct for cell in cells], dtype=bool)
    groups = item_groups(cells[0])
    always = right.all(0).astype(np.float64)
    independent = right.shape[1] if groups is None else len(set(groups))
    worst = None
    if independent > 1:
        worst = honest_worst(np.stack([cell.values for cell in cells]), groups=groups)
    return WorstCase(
        float(always.mean()),
        share_interval(always, groups=groups),
        float(right.any(0).mean()),
        worst,
    )
