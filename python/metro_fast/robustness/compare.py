"""Comparison of two models on the same cells: is the second as good and as robust as the first?"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.robustness.cells import Cell
from metro_fast.robustness.common_items import common_ids, item_groups, value_matrix
from metro_fast.robustness.gap import PairedDifference, paired_difference, std_difference
from metro_fast.robustness.report import Report
from metro_fast.robustness.resampling import PairedTest, paired_test
from metro_fast.robustness.statistics import holm
from metro_fast.robustness.unchanged import same_scores

__all__ = [
    "Comparison",
    "InstructionComparison",
    "TaskComparison",
    "compare",
    "why_not_pairable",
]


@dataclass(frozen=True)
class InstructionComparison:
    """One instruction: the metric of both models, and a paired test on the items that differ.

    Attributes:
        instruction_id: Id of the instruction.
        first_value: The metric of the first model.
        second_value: The metric of the second model.
        test: McNemar's exact test if items score 0 or 1, else approximate randomization.
        adjusted_p: The p value with Holm's correction over the instructions of the task.
    """

    instruction_id: str
    first_value: float
    second_value: float
    test: PairedTest
    adjusted_p: float

    @property
    def difference(self) -> float:
        """The metric of the second model minus that of the first."""
        return self.second_value - self.first_value


@dataclass(frozen=True)
class TaskComparison:
    """One task: second minus first over the same items under the same instructions.

    Attributes:
        task: Name of the task.
        item_count: Number of items.
        items_hash: SHA-256 of the items.
        preset: Scoring protocol.
        metric_label: Name of the task's metric in tables.
        difference: Difference of the means over instructions.
        spread: Difference of the standard deviations over instructions; None for one instruction.
        agreement: Share of (item, instruction) pairs with the same prediction, correct or not.
        unchanged: Whether no score differs by more than the noise of batching (`same_scores`), or
            every written answer is the same.
        margin: Differences up to this count as equal.
        instructions: The comparison under each instruction.
    """

    task: str
    item_count: int
    items_hash: str
    preset: str
    metric_label: str
    difference: PairedDifference
    spread: PairedDifference | None
    agreement: float
    unchanged: bool
    margin: float
    instructions: tuple[InstructionComparison, ...]

    def __repr__(self) -> str:
        low, high = (100 * end for end in self.difference.interval)
        return (
            f"<TaskComparison on {self.task}: {self.verdict}, {100 * self.difference.mean:+.1f} "
            f"points [{low:+.1f}, {high:+.1f}]>"
        )

    @property
    def worst(self) -> InstructionComparison:
        """The instruction under which the second model loses most."""
        return min(self.instructions, key=lambda i: i.difference)

    @property
    def verdict(self) -> str:
        """`as robust`, `better`, `worse` or `undecided`.

        `as robust` requires that the 95 % intervals of the mean difference and of the difference
        in spread are both inside ± margin, which is two one-sided tests at 2.5 % each. `better`
        and `worse` require that the first interval does not contain 0. A difference that is merely
        not significant does not show equivalence; it is `undecided`.
        """
        intervals = [self.difference.interval]
        if self.spread is not None:
            intervals.append(self.spread.interval)
        if all(-self.margin <= i.low and i.high <= self.margin for i in intervals):
            return "as robust"
        if self.difference.interval.low > 0:
            return "better"
        if self.difference.interval.high < 0:
            return "worse"
        return "undecided"


@dataclass(frozen=True)
class Comparison:
    """Two models on the tasks that they share; differences are second minus first.

    Attributes:
        first: Name of the first model.
        second: Name of the second model.
        first_hash: The first model's hash, as in its report.
        second_hash: The second model's hash, as in its report.
        tasks: The comparison on each task.
    """

    first: str
    second: str
    first_hash: str
    second_hash: str
    tasks: tuple[TaskComparison, ...]

    def __repr__(self) -> str:
        verdicts = ", ".join(f"{task.task}: {task.verdict}" for task in self.tasks)
        return f"<Comparison of {self.second} with {self.first}; {verdicts}>"

    def task(self, name: str) -> TaskComparison:
        """The comparison on one task.

        Args:
            name: Name of the task.

        Raises:
            MetroFastError: If the task was not compared.
        """
        for task in self.tasks:
            if task.task == name:
                return task
        names = ", ".join(task.task for task in self.tasks)
        raise MetroFastError(f"task {quoted(name)} was not compared, only {names}")


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


def why_not_pairable(first: Report, second: Report, task: str) -> str | None:
    """Why two reports cannot be compared on a task.

    Args:
        first: One report.
        second: Another one, which has the task too.
        task: Name of the task.

    Returns:
        The difference in words, or None if they can be compared.
    """
    cells, others = first.task_cells(task), second.task_cells(task)
    whole = {c.record.task: c.record for c in first.cells}[task]
    other = {c.record.task: c.record for c in second.cells}[task]
    for key in ("split", "items_hash", "metric", "preset", "protocol_hash", "shots"):
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
    metric = ours[0].metric
    tests = [paired_test(metric, a.parts, b.parts) for a, b in pairs]
    adjusted = holm([test.p_value for test in tests])
    same = [x.given == y.given for a, b in pairs for x, y in zip(a.answers, b.answers, strict=True)]
    return TaskComparison(
        task=task,
        item_count=values.shape[1],
        items_hash=ours[0].record.items_hash,
        preset=ours[0].record.preset,
        metric_label=metric.label,
        difference=paired_difference(values, others, groups=groups),
        spread=std_difference(values, others, groups=groups) if len(values) > 1 else None,
        agreement=float(np.mean(same)),
        unchanged=_unchanged(pairs),
        margin=margin,
        instructions=tuple(
            InstructionComparison(a.record.instruction.id, a.value, b.value, test, p)
            for (a, b), test, p in zip(pairs, tests, adjusted, strict=True)
        ),
    )


def _unchanged(pairs: Sequence[tuple[Cell, Cell]]) -> bool:
    """Whether two models answered as one does."""
    answers = [(x, y) for a, b in pairs for x, y in zip(a.outcomes, b.outcomes, strict=True)]
    if any((x.scores is None) != (y.scores is None) or x.text != y.text for x, y in answers):
        return False
    scored = [(x.scores, y.scores) for x, y in answers if x.scores and y.scores]
    return same_scores([[x for x, _ in scored]], [[y for _, y in scored]])
