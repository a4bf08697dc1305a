"""The gap of seen and unseen wordings of a model, over all of its tasks of one kind."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from metro_fast.robustness.cells import Cell
from metro_fast.robustness.common_items import item_groups, value_matrix
from metro_fast.robustness.gap import SeenGap, seen_gap
from metro_fast.robustness.report import Report

__all__ = ["KindGap", "joined_gap", "kind_gaps"]


class KindGap(NamedTuple):
    """The gap of the tasks that have the same wordings."""

    tasks: tuple[str, ...]
    gap: SeenGap


def kind_gaps(report: Report) -> tuple[KindGap, ...]:
    """The gaps of a model: of one task, that of its summary; of several, one of all their items.

    Tasks with the same wordings are one table of wordings by the items of all tasks, in which each
    task has the same weight: an interval from the gaps of the tasks would count wordings that they
    share as if each task had drawn its own.

    Args:
        report: A report.

    Returns:
        One gap for each set of wordings that has seen and unseen ones.

    Raises:
        MissingExtraError: If scipy is not installed.
    """
    found: dict[tuple[tuple[str, bool], ...], list[str]] = {}
    for task in report.tasks:
        summary = report.summary(task)
        if summary.gap is not None:
            rows = sorted((row.instruction_id, row.seen) for row in summary.instructions)
            kind = report.task_cells(task)[0].record
            found.setdefault((*rows, (f"{kind.task_type} {kind.metric}", False)), []).append(task)
    return tuple(KindGap(tuple(tasks), _gap(report, tasks)) for tasks in found.values())


def _gap(report: Report, tasks: Sequence[str]) -> SeenGap:
    if len(tasks) == 1:
        gap = report.summary(tasks[0]).gap
        assert gap is not None
        return gap
    cells = [_ordered(report.task_cells(task)) for task in tasks]
    return joined_gap(
        [value_matrix(rows) for rows in cells],
        [cell.record.seen for cell in cells[0]],
        [item_groups(rows[0]) or [item.id for item in rows[0].items] for rows in cells],
    )


def joined_gap(
    values: Sequence[NDArray[np.float64]], seen: Sequence[bool], groups: Sequence[Sequence[str]]
) -> SeenGap:
    """The gap of several tasks under the same wordings, each with the same weight.

    Args:
        values: For each task, shape (P, N), float64: its wordings by its items.
        seen: Whether each of the P wordings was seen.
        groups: For each task the groups of its N items, or its items' ids.

    Returns:
        The gap.

    Raises:
        MissingExtraError: If scipy is not installed.

    Example:
        >>> right = np.tile([[1.0], [0.0]], (2, 4))
        >>> ids = [f"{i}" for i in range(4)]
        >>> joined_gap([right, right], [True, False, True, False], [ids, ids]).gap
        1.0
    """
    total = sum(each.shape[1] for each in values)
    blocks = [each * (total / len(values) / each.shape[1]) for each in values]
    names = [f"{k} {name}" for k, each in enumerate(groups) for name in each]
    return seen_gap(np.concatenate(blocks, axis=1), seen, groups=names)


def _ordered(cells: Sequence[Cell]) -> list[Cell]:
    return sorted(cells, key=lambda cell: cell.record.instruction.id)
