"""Which cells belong into one report: one model, one protocol, one set of items for each task."""

from collections.abc import Iterable, Sequence

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.robustness.cell_record import CellRecord
from metro_fast.robustness.cells import Cell
from metro_fast.robustness.common_items import common_ids

__all__ = ["check_report", "mixture", "partition", "problem", "same_answers"]

_REPORT = (
    "model_name", "model_family", "model_hash", "tokenizer_hash", "preset", "protocol_hash",
)  # fmt: skip
_TASK = ("task_type", "split", "metric", "items_hash", "shots")


def mixture(records: Iterable[CellRecord]) -> str | None:
    """Why cells cannot be in one report.

    Args:
        records: Their records.

    Returns:
        The first difference in words, or None if they belong together.
    """
    shared: dict[tuple[str, str], object] = {}
    slots: set[tuple[str, str]] = set()
    for record in records:
        slot = record.slot
        if slot in slots:
            return f"cell {quoted(slot[0])} x {quoted(slot[1])} is given twice: remove one"
        slots.add(slot)
        for where, keys in (("the report", _REPORT), (f"task {quoted(record.task)}", _TASK)):
            for key in keys:
                value = getattr(record, key)
                known = shared.setdefault((where, key), value)
                if known != value:
                    return (
                        f"{where} mixes {key} {quoted(known)} and {quoted(value)}: delete the "
                        "cells of one of them"
                    )
    return None


def partition(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Put cells into as few reports as their order allows.

    Args:
        cells: Any cells.

    Returns:
        Lists without a `mixture`, whose cells of a task have items in common; each cell is in the
        first one that it fits.
    """
    found: list[dict[tuple[str, str], Cell]] = []
    for cell in cells:
        record = cell.record
        slot = record.slot
        for group in found:
            # One cell of its task is enough to compare with, since the others are like it.
            like = next((c for c in group.values() if c.record.task == record.task), None)
            like = like or next(iter(group.values()))
            if slot in group or mixture((like.record, record)) is not None:
                continue
            same = [c for c in (*group.values(), cell) if c.record.task == record.task]
            if common_ids(same):
                group[slot] = cell
                break
        else:
            found.append({slot: cell})
    return [list(group.values()) for group in found]


def same_answers(first: CellRecord, second: CellRecord) -> bool:
    """Whether one of two cells can stand for the other, since every mean takes them alike."""
    return (
        first.identity == second.identity
        and first.instruction.kind == second.instruction.kind
        and all(getattr(first, key) == getattr(second, key) for key in _TASK)
    )


def problem(cells: Sequence[Cell]) -> str | None:
    """Why cells do not make a report.

    Args:
        cells: Any cells.

    Returns:
        The reason: the list is empty, they have a `mixture`, or a task has controls alone, no item
        that all its wordings can word, or a control without any of these items. None if they make
        one.
    """
    if not cells:
        return "a report needs at least one cell"
    reason = mixture(cell.record for cell in cells)
    if reason is not None:
        return reason
    for task in dict.fromkeys(cell.record.task for cell in cells):
        wordings = [
            cell
            for cell in cells
            if cell.record.task == task and not cell.record.instruction.is_control
        ]
        if not wordings:
            return f"task {quoted(task)} has controls alone, which enter no average: add a wording"
        common = common_ids(wordings)
        for cell in cells:
            if cell.record.task == task and common and not common & common_ids([cell]):
                return (
                    f"task {quoted(task)}: the control {quoted(cell.record.instruction.id)} can "
                    "word none of the items that all wordings can; leave it out"
                )
        if not common:
            fewest = min(wordings, key=lambda cell: len(cell.items)).record.instruction.id
            return (
                f"task {quoted(task)}: no item can be worded by all instructions; leave out "
                f"{quoted(fewest)}, which words the fewest"
            )
    return None


def check_report(cells: Sequence[Cell]) -> None:
    """Refuse cells that do not make a report.

    Raises:
        MetroFastError: If they have a `problem`.
    """
    reason = problem(cells)
    if reason is not None:
        raise MetroFastError(reason)
