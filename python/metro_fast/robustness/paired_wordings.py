"""Wording by wording: the metric on both of two sides, with a paired test of each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metro_fast.robustness.cells import Cell
from metro_fast.robustness.paired import paired_difference
from metro_fast.robustness.resampling import PairedTest, paired_test
from metro_fast.robustness.statistics import Interval, holm
from metro_fast.scoring import Metric

__all__ = ["ERROR", "InstructionComparison", "Side", "compare_wordings", "lost", "side_of"]

ERROR = 0.05
"""Chance of naming any wording where none differs, over all wordings of a task."""
_SWAPS = 9_999


@dataclass(frozen=True)
class InstructionComparison:
    """One instruction: the metric on both sides, and a paired test on the items that differ.

    Attributes:
        instruction_id: Id of the instruction.
        first_value: The metric of the first model, or under the median instruction.
        second_value: The metric of the second model, or under this instruction.
        test: McNemar's exact test if items score 0 or 1 and are independent, else approximate
            randomization, by groups if there are any.
        adjusted_p: The p value with Holm's correction over the instructions of the task.
        interval: The 95 % interval of second minus first, of this instruction alone.
        equal_within: The smallest margin within which equality is shown.
    """

    instruction_id: str
    first_value: float
    second_value: float
    test: PairedTest
    adjusted_p: float
    interval: Interval
    equal_within: float

    @property
    def difference(self) -> float:
        """Second minus first."""
        return self.second_value - self.first_value


@dataclass(frozen=True)
class Side:
    """One side of a comparison under one instruction: its metric, parts and values."""

    value: float
    parts: NDArray[np.float64]
    values: NDArray[np.float64]


def side_of(cell: Cell) -> Side:
    """The side of a cell."""
    return Side(cell.value, cell.parts, cell.values)


def compare_wordings(
    metric: Metric,
    ids: Sequence[str],
    sides: Sequence[tuple[Side, Side]],
    *,
    groups: Sequence[str] | None = None,
    swaps: int = _SWAPS,
) -> tuple[InstructionComparison, ...]:
    """Compare two sides under each instruction, with Holm's correction over the instructions.

    Args:
        metric: The task's metric.
        ids: Id of each instruction.
        sides: The first and the second side under each, over the same items.
        groups: The group of each item, as in `paired_test`.
        swaps: As in `paired_test`.

    Returns:
        One comparison for each instruction.

    Raises:
        MetroFastError: As for `paired_test` and `paired_difference`.
        MissingExtraError: If scipy is not installed.
    """
    tests = [paired_test(metric, a.parts, b.parts, groups=groups, swaps=swaps) for a, b in sides]
    adjusted = holm([test.p_value for test in tests])
    differences = [
        paired_difference(a.values[None], b.values[None], groups=groups) for a, b in sides
    ]
    return tuple(
        InstructionComparison(name, a.value, b.value, test, p, d.interval, d.equal_within)
        for name, (a, b), test, p, d in zip(ids, sides, tests, adjusted, differences, strict=True)
    )


def lost(
    rows: Sequence[InstructionComparison], *, margin: float = 0.0
) -> tuple[InstructionComparison, ...]:
    """The instructions that are shown to have lost, the largest loss first.

    Args:
        rows: The comparisons.
        margin: Losses that are shown to be at most this do not count.

    Returns:
        Those whose adjusted p is below .05 and whose interval does not exclude a loss above the
        margin.
    """
    found = (
        row
        for row in rows
        if row.difference < 0 and row.adjusted_p < ERROR and row.interval.low < -margin
    )
    return tuple(sorted(found, key=lambda row: row.difference))
