"""Variation by its kind: words, layout, and the order of options."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from metro_fast.robustness.cells import Cell
from metro_fast.robustness.common_items import item_groups, value_matrix
from metro_fast.robustness.resampling import group_index
from metro_fast.robustness.spread import Spread, wording_spread

__all__ = ["KindSpread", "kind_spreads"]


class KindSpread(NamedTuple):
    """The instructions of one kind; `spread` is None for one instruction or independent item."""

    kind: str
    instructions: int
    mean: float
    spread: Spread | None


def kind_spreads(cells: Sequence[Cell]) -> tuple[KindSpread, ...]:
    """The spread within each kind of instruction.

    Args:
        cells: Cells of one model on one task, over the same items, without controls.

    Returns:
        One row for each of `metro_fast.prompts.KINDS` that occurs; none if there is only one.

    Raises:
        MissingExtraError: If scipy is not installed.
    """
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        found.setdefault(cell.record.instruction.kind, []).append(cell)
    if len(found) < 2:
        return ()
    return tuple(_row(kind, rows) for kind, rows in found.items())


def _row(kind: str, cells: Sequence[Cell]) -> KindSpread:
    values, groups = value_matrix(cells), item_groups(cells[0])
    several = len(cells) > 1 and group_index(groups, values.shape[1])[1] > 1
    return KindSpread(
        kind,
        len(cells),
        float(np.mean([cell.value for cell in cells])),
        wording_spread(values, groups=groups) if several else None,
    )
