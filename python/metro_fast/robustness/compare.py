"""Comparison of two models on the same cells: is the second as good and as robust as the first?"""

import warnings
from collections.abc import Sequence

import numpy as np

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.robustness.cells import Cell
from metro_fast.robustness.common_items import common_ids, item_groups, value_matrix
from metro_fast.robustness.comparison import Comparison, TaskComparison
from metro_fast.robustness.paired import exchange_p_value, paired_difference
from metro_fast.robustness.paired_wordings import compare_wordings, side_of
from metro_fast.robustness.report import Report
from metro_fast.robustness.resampling import group_index
from metro_fast.robustness.spread import spread_difference
from metro_fast.robustness.unchanged import same_scores

__all__ = ["compare", "why_not_pairable"]


def compare(
    first: Report,
    second: Report,
    *,
    tasks: Sequence[str] | None = None,
    margin: float = 0.01,
) -> Comparison:
    """Compare two models, paired over items and instructions, task by task.

    Args:
        first: Report of the reference, for instance a model with its expert.
        second: Report of the other model, for instance one with the same expert compressed.
        tasks: Names of the tasks to compare; by default all, and both must have the same ones.
        margin: Differences of the metric up to this count as equal in the verdict; 0.01 is a point.

    Returns:
        The comparison.

    Raises:
        MetroFastError: If the reports do not have the same tasks, items, instructions and
            protocol; the message names the difference.
        MissingExtraError: If scipy is not installed.

    Warns:
        UserWarning: If no score differs by more than the noise of batching, as if an expert was
            not applied.

    Example:
        >>> comparison = compare(expert_report, compressed_report)  # doctest: +SKIP
        >>> comparison.task("relations").verdict  # doctest: +SKIP
        'as robust'
    """
    if not 0 < margin < 1:
        raise MetroFastError(f"margin is {margin}, expected a share between 0 and 1, such as 0.01")
    if tasks is None:
        if set(first.tasks) != set(second.tasks):
            raise MetroFastError(
                f"{first.model_name} has the tasks {', '.join(first.tasks)}, "
                f"{second.model_name} has {', '.join(second.tasks)}: pass tasks= to name those to "
                "compare"
            )
        tasks = first.tasks
    if not tasks:
        raise MetroFastError("tasks is empty, expected at least one task")
    compared = tuple(_compare_task(first, second, task, margin) for task in tasks)
    if all(task.unchanged for task in compared):
        warnings.warn(
            f"every score of {quoted(first.model_name)} and {quoted(second.model_name)} is the "
            "same up to the noise of batching; was the expert or adapter applied?",
            stacklevel=2,
        )
    return Comparison(
        first.model_name, second.model_name, first.model_hash, second.model_hash, compared
    )


def why_not_pairable(
    first: Report, second: Report, task: str, *, same_protocol: bool = True
) -> str | None:
    """Why two reports cannot be compared on a task.

    Args:
        first: One report.
        second: Another one, which has the task too.
        task: Name of the task.
        same_protocol: Whether they must be of one protocol.

    Returns:
        The difference in words, or None if they can be compared.
    """
    cells, others = first.task_cells(task), second.task_cells(task)
    whole = {c.record.task: c.record for c in first.cells}[task]
    other = {c.record.task: c.record for c in second.cells}[task]
    protocol = ("preset", "protocol_hash") if same_protocol else ()
    for key in ("split", "items_hash", "metric", *protocol, "shots"):
        values = getattr(whole, key), getattr(other, key)
        if values[0] != values[1]:
            return (
                f"task {quoted(task)}: {key} differs, it is {quoted(values[0])} and "
                f"{quoted(values[1])}: evaluate both models with the same one"
            )
    by_id = {cell.record.instruction.id: cell for cell in others}
    ids = {cell.record.instruction.id for cell in cells}
    if ids != by_id.keys():
        only = ", ".join(sorted(ids ^ by_id.keys()))
        return f"task {quoted(task)}: only one of the two has the instructions {only}"
    for cell in cells:
        name = cell.record.instruction.id
        if cell.record.prompts_hash != by_id[name].record.prompts_hash:
            return (
                f"task {quoted(task)}: instruction {quoted(name)} is worded differently in the "
                "two, or after other worked examples"
            )
    return None


def _compare_task(first: Report, second: Report, task: str, margin: float) -> TaskComparison:
    reason = why_not_pairable(first, second, task)
    if reason is not None:
        raise MetroFastError(reason)
    by_id = {cell.record.instruction.id: cell for cell in second.task_cells(task)}
    pairs = [(cell, by_id[cell.record.instruction.id]) for cell in first.task_cells(task)]
    ids = common_ids(cell for pair in pairs for cell in pair)
    pairs = [(a.take(ids), b.take(ids)) for a, b in pairs]
    ours, theirs = ([pair[k] for pair in pairs] for k in (0, 1))
    values, others = value_matrix(ours), value_matrix(theirs)
    groups = item_groups(ours[0])
    same = [x.given == y.given for a, b in pairs for x, y in zip(a.answers, b.answers, strict=True)]
    return TaskComparison(
        task=task,
        item_count=values.shape[1],
        independent_count=group_index(groups, values.shape[1])[1],
        items_hash=ours[0].record.items_hash,
        preset=ours[0].record.preset,
        metric_label=ours[0].metric.label,
        first_mean=_mean(ours),
        second_mean=_mean(theirs),
        difference=paired_difference(values, others, groups=groups),
        p_value=exchange_p_value(values, others, groups=groups),
        spread=spread_difference(values, others, groups=groups) if len(values) > 1 else None,
        agreement=float(np.mean(same)),
        unchanged=_unchanged(pairs),
        margin=margin,
        instructions=compare_wordings(
            ours[0].metric,
            [cell.record.instruction.id for cell in ours],
            [(side_of(a), side_of(b)) for a, b in pairs],
            groups=groups,
        ),
    )


def _mean(cells: Sequence[Cell]) -> float:
    return sum(cell.value for cell in cells) / len(cells)


def _unchanged(pairs: Sequence[tuple[Cell, Cell]]) -> bool:
    """Whether two models answered as one does."""
    answers = [(x, y) for a, b in pairs for x, y in zip(a.outcomes, b.outcomes, strict=True)]
    if any((x.scores is None) != (y.scores is None) or x.text != y.text for x, y in answers):
        return False
    scored = [(x.scores, y.scores) for x, y in answers if x.scores and y.scores]
    return same_scores([[x for x, _ in scored]], [[y for _, y in scored]])
