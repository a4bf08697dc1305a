"""The numbers of one model on one task, computed from its cells."""

from collections.abc import Sequence

from metro_fast.robustness.agreement import consistency_rate
from metro_fast.robustness.baselines import chance, constant_answer
from metro_fast.robustness.cells import Cell
from metro_fast.robustness.cochran import cochran_q
from metro_fast.robustness.common_items import (
    answer_codes,
    check_together,
    item_groups,
    on_common_items,
    value_matrix,
)
from metro_fast.robustness.control_checks import check_controls
from metro_fast.robustness.gap import seen_gap
from metro_fast.robustness.kinds import kind_spreads
from metro_fast.robustness.paired_wordings import InstructionComparison, compare_wordings, side_of
from metro_fast.robustness.resampling import group_index, score_interval
from metro_fast.robustness.spread import wording_spread
from metro_fast.robustness.summary import InstructionScore, TaskSummary, median_index
from metro_fast.robustness.worst_case import worst_case

__all__ = ["summarize"]


def _against_median(cells: Sequence[Cell]) -> tuple[InstructionComparison, ...]:
    """Every other instruction against the median one."""
    middle = cells[median_index([cell.value for cell in cells])]
    others = [cell for cell in cells if cell is not middle]
    sides = [side_of(cell) for cell in (middle, *others)]
    return compare_wordings(
        middle.metric,
        [cell.record.instruction.id for cell in others],
        [(sides[0], side) for side in sides[1:]],
        groups=item_groups(middle),
        # Holm's smallest p is the number of wordings over that of exchanges.
        swaps=max(1_999, 200 * len(others)),
    )


def summarize(cells: Sequence[Cell], controls: Sequence[Cell] = ()) -> TaskSummary:
    """Summarize the cells of one model on one task, over the items that all of them have.

    Args:
        cells: One cell per wording, of the same task.
        controls: Cells of controls, of the same task; they enter no average, and those that cannot
            word an item leave it out for themselves alone.

    Returns:
        The summary.

    Raises:
        MetroFastError: If there are no cells, they have no item in common, or they differ in model,
            task, split, metric, items or protocol.
        MissingExtraError: If scipy is not installed.
    """
    whole = cells
    cells = on_common_items(cells)
    first, task = cells[0], whole[0].task
    values = value_matrix(cells)
    groups = item_groups(first)
    rows = tuple(_score_of(cell, each) for cell, each in zip(cells, whole, strict=True))
    independent = group_index(groups, values.shape[1])[1]
    several, kinds = len(cells) > 1, {row.seen for row in rows}
    compared = several and independent > 1
    ids = {item.id for item in first.items}
    own = [
        cell.take(ids & {item.id for item in cell.items})
        for cell in check_together(controls, whole[0])
    ]
    return TaskSummary(
        model_name=first.record.model_name,
        model_hash=first.record.model_hash,
        task=first.record.task,
        split=first.record.split,
        metric=first.metric.name,
        metric_label=first.metric.label,
        binary=first.metric.binary,
        preset=first.record.preset,
        items_hash=first.record.items_hash,
        item_count=len(first.items),
        independent_count=independent,
        task_item_count=len(task),
        instructions=rows,
        mean=float(values.mean()),
        chance=chance(cells),
        majority_share=constant_answer(first),
        gap=seen_gap(values, [row.seen for row in rows], groups=groups)
        if len(kinds) == 2 and independent > 1
        else None,
        variance=wording_spread(values, groups=groups) if compared else None,
        cochran=cochran_q(values, groups=groups) if several else None,
        consistency=consistency_rate(answer_codes(cells)) if several else None,
        against_median=_against_median(cells) if compared else (),
        worst_case=worst_case(cells) if several else None,
        kinds=kind_spreads(cells),
        controls=tuple(map(_score_of, own, controls)),
        control_checks=check_controls(cells, own),
    )


def _score_of(cell: Cell, whole: Cell) -> InstructionScore:
    """The numbers of a cell on the common items, with the rejects of the whole one."""
    return InstructionScore(
        instruction_id=cell.record.instruction.id,
        text=cell.record.instruction.text,
        seen=cell.record.seen,
        value=cell.value,
        interval=score_interval(cell.metric, cell.parts, groups=item_groups(cell)),
        correct=sum(cell.correct),
        total=len(cell.items),
        ties=cell.ties,
        unread=cell.unread,
        cut=cell.cut,
        rejects=whole.rejects_by_reason,
    )
