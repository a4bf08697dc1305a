"""Whether a model notices that an instruction does not ask for the right answer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metro_fast.robustness.cells import Cell
from metro_fast.robustness.common_items import common_ids, item_groups, value_matrix
from metro_fast.robustness.paired import PairedDifference, paired_difference
from metro_fast.robustness.resampling import group_index

__all__ = ["DROP", "ControlCheck", "check_controls"]

DROP = 0.05
"""The smallest drop that counts as noticing a control: chance alone moves 250 items by 3 points."""


@dataclass(frozen=True)
class ControlCheck:
    """One control against the wordings of its task, on the same items.

    Attributes:
        instruction_id: Id of the control.
        kind: `negated`, `wrong` or `empty`.
        value: The metric under the control.
        wordings_mean: The mean over wordings, on the items that the control can word.
        difference: Under the control minus the mean over wordings; None for one independent item.
            The intervals of all controls of a task hold together in 95 % of cases (Bonferroni).
    """

    instruction_id: str
    kind: str
    value: float
    wordings_mean: float
    difference: PairedDifference | None

    @property
    def verdict(self) -> str:
        """`notices`, `does not notice` or `undecided`.

        A model `notices` a control if its value is lower than under the wordings. It `does not
        notice` if the interval excludes a drop of 5 points: a model that answers alike whatever it
        is asked looks robust, and is not following.
        """
        if self.difference is None:
            return "undecided"
        if self.difference.interval.low > -DROP:
            return "does not notice"
        return "notices" if self.difference.interval.high < 0 else "undecided"


def check_controls(wordings: Sequence[Cell], controls: Sequence[Cell]) -> tuple[ControlCheck, ...]:
    """Compare every control with the wordings.

    Args:
        wordings: Cells of a task on the items that all of them can word.
        controls: Cells of its controls, each with some of these items.

    Returns:
        One check for each control.

    Raises:
        MissingExtraError: If items have groups and scipy is not installed.
    """
    return tuple(_check(wordings, control, len(controls)) for control in controls)


def _check(wordings: Sequence[Cell], control: Cell, count: int) -> ControlCheck:
    ids = common_ids((wordings[0], control))
    cells, own = [cell.take(ids) for cell in wordings], control.take(ids)
    usual, groups = value_matrix(cells).mean(0, keepdims=True), item_groups(own)
    difference = None
    if group_index(groups, usual.shape[1])[1] > 1:
        difference = paired_difference(
            usual, own.values[None], groups=groups, confidence=1 - 0.05 / count
        )
    return ControlCheck(
        instruction_id=own.record.instruction.id,
        kind=own.record.instruction.kind,
        value=own.value,
        wordings_mean=float(np.mean([cell.value for cell in cells])),
        difference=difference,
    )
