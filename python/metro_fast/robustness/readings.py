"""One model asked the same cells in two ways, by likelihood and by generation."""

from dataclasses import dataclass

import numpy as np

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.robustness.common_items import (
    answer_codes,
    common_ids,
    item_groups,
    value_matrix,
)
from metro_fast.robustness.compare import why_not_pairable
from metro_fast.robustness.paired import PairedDifference, paired_difference
from metro_fast.robustness.paired_wordings import InstructionComparison, compare_wordings, side_of
from metro_fast.robustness.report import Report
from metro_fast.robustness.spread import SpreadDifference, spread_difference

__all__ = ["ReadingComparison", "compare_readings"]


@dataclass(frozen=True)
class ReadingComparison:
    """Two protocols on the same cells of one model; differences are second minus first.

    Attributes:
        task: Name of the task.
        first_preset: Name of the first protocol, for instance one of likelihood.
        second_preset: Name of the second one, for instance one of written answers.
        item_count: Number of items.
        difference: Difference of the means over instructions.
        spread: Difference of the sigmas; None for one instruction. Much of what is called
            sensitivity to prompts comes from how answers are read.
        agreement: Share of (item, instruction) pairs with the same answer.
        first_unread: Share of the first one's answers that name no choice.
        second_unread: Share of the second one's.
        instructions: The comparison under each instruction.
    """

    task: str
    first_preset: str
    second_preset: str
    item_count: int
    difference: PairedDifference
    spread: SpreadDifference | None
    agreement: float
    first_unread: float
    second_unread: float
    instructions: tuple[InstructionComparison, ...]


def compare_readings(first: Report, second: Report, task: str) -> ReadingComparison:
    """Compare two protocols on the same cells of one model.

    Args:
        first: Report of one protocol.
        second: Report of another one, of the same model.
        task: Name of the task.

    Returns:
        The comparison, over the items that all instructions of both can word.

    Raises:
        MetroFastError: If the reports differ in more than the protocol, or have the same one.
        MissingExtraError: If scipy is not installed.

    Example:
        >>> compare_readings(by_likelihood, by_generation, "polarity").agreement  # doctest: +SKIP
        0.94
    """
    if first.model_hash != second.model_hash:
        raise MetroFastError(
            f"{quoted(first.model_name)} and {quoted(second.model_name)} are different models: "
            "readings are compared on one model, and models with compare"
        )
    if first.cells[0].record.protocol_hash == second.cells[0].record.protocol_hash:
        raise MetroFastError(
            f"both reports have the protocol {quoted(first.preset)}; give two readings"
        )
    reason = why_not_pairable(first, second, task, same_protocol=False)
    if reason is not None:
        raise MetroFastError(reason)
    ours = list(first.task_cells(task))
    by_id = {cell.record.instruction.id: cell for cell in second.task_cells(task)}
    theirs = [by_id[cell.record.instruction.id] for cell in ours]
    shared = common_ids((*ours, *theirs))
    if not shared:
        raise MetroFastError(
            f"task {quoted(task)}: no item was asked in both ways; give reports of the same items"
        )
    ours, theirs = ([cell.take(shared) for cell in cells] for cells in (ours, theirs))
    values, written, groups = value_matrix(ours), value_matrix(theirs), item_groups(ours[0])
    same = np.array(answer_codes(ours)) == np.array(answer_codes(theirs))
    asked = values.size
    return ReadingComparison(
        task=task,
        first_preset=first.preset,
        second_preset=second.preset,
        item_count=values.shape[1],
        difference=paired_difference(values, written, groups=groups),
        spread=spread_difference(values, written, groups=groups) if len(values) > 1 else None,
        agreement=float(same.mean()),
        first_unread=sum(cell.unread for cell in ours) / asked,
        second_unread=sum(cell.unread for cell in theirs) / asked,
        instructions=compare_wordings(
            ours[0].metric,
            [cell.record.instruction.id for cell in ours],
            [(side_of(a), side_of(b)) for a, b in zip(ours, theirs, strict=True)],
            groups=groups,
        ),
    )
