"""The gap of seen and unseen wordings of a model, over all of its tasks of one kind."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from metro_fast.robustness.cells import Cell
from metro_fast.robustness.common_items import item_groups, value_matrix
from metro_fast.robustness.gap import SeenGap, seen_gap
from metro_fast.robustness.report import Report

__all__ = ["KindGap", "kind_gaps"]


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
    blocks, groups = [], []
    cells = [_ordered(report.task_cells(task)) for task in tasks]
    total = sum(len(rows[0].items) for rows in cells)
    for task, rows in zip(tasks, cells, strict=True):
        values = value_matrix(rows)
        count = values.shape[1]
        blocks.append(values * (total / len(tasks) / count))
        own = item_groups(rows[0]) or [f"item {item.id}" for item in rows[0].items]
        groups += [f"{task}, {name}" for name in own]
    seen = [cell.record.seen for cell in cells[0]]
    return seen_gap(np.concatenate(blocks, axis=1), seen, groups=groups)


def _ordered(cells: Sequence[Cell]) -> list[Cell]:
    return sorted(cells, key=lambda cell: cell.record.instruction.id)
