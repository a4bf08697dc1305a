"""Cells of one task over the items that all of their instructions can word."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.robustness.cells import Cell
from metro_fast.scoring import normalized_text

__all__ = [
    "answer_codes",
    "check_together",
    "common_ids",
    "item_groups",
    "on_common_items",
    "value_matrix",
]


def common_ids(cells: Iterable[Cell]) -> set[str]:
    """Ids of the items that all cells have an answer to; at least one cell is given."""
    return set.intersection(*({item.id for item in cell.items} for cell in cells))


def on_common_items(cells: Sequence[Cell]) -> list[Cell]:
    """The cells on the items that all their instructions can word.

    Args:
        cells: Cells of one model on one task.

    Returns:
        Cells with the same items in the same order.

    Raises:
        MetroFastError: If there are no cells, they differ in what must not be mixed, or they have
            no item in common.
    """
    if not cells:
        raise MetroFastError("no cells are given, expected at least one")
    check_together(cells, cells[0])
    ids = common_ids(cells)
    if not ids:
        fewest = min(cells, key=lambda cell: len(cell.items)).record.instruction.id
        raise MetroFastError(
            f"task {quoted(cells[0].record.task)}: no item can be worded by all instructions; "
            f"leave out {quoted(fewest)}, which words the fewest"
        )
    return [cell.take(ids) for cell in cells]


def value_matrix(cells: Sequence[Cell]) -> NDArray[np.float64]:
    """`[P, N]`, float64: the values of items under instructions, whose mean is the metric."""
    return np.stack([cell.values for cell in cells])


def item_groups(cell: Cell) -> list[str] | None:
    """The group of every item, its own if it has none; None if no item has a group."""
    if all(item.group is None for item in cell.items):
        return None
    return [f"item {i.id}" if i.group is None else f"group {i.group}" for i in cell.items]


def check_together(cells: Sequence[Cell], first: Cell) -> Sequence[Cell]:
    """The cells, if they may be averaged with the first.

    Raises:
        MetroFastError: If they differ from it in what must not be mixed.
    """
    keys = {
        (r.model_name, r.model_hash, r.task, r.split, r.metric, r.preset, r.items_hash)
        for r in (cell.record for cell in (first, *cells))
    }
    if len(keys) > 1:
        raise MetroFastError(
            "cells that differ in model, task, split, metric, preset or items cannot be averaged: "
            f"{sorted(keys)}"
        )
    return cells


def answer_codes(cells: Sequence[Cell]) -> list[list[str]]:
    """`[P, N]`: texts that are equal where two instructions give an item the same answer."""
    return [
        [
            normalized_text(answer.given) if not prompt.choices else answer.given
            for answer, prompt in zip(cell.answers, cell.prompts, strict=True)
        ]
        for cell in cells
    ]
