"""The tables of a comparison of two models, and what they show."""

from dataclasses import dataclass
from functools import cached_property

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.robustness.over_wordings import drop_rate
from metro_fast.robustness.paired import PairedDifference
from metro_fast.robustness.paired_wordings import InstructionComparison, lost
from metro_fast.robustness.scale import cohens_h
from metro_fast.robustness.spread import SpreadDifference
from metro_fast.robustness.statistics import holm
from metro_fast.robustness.verdicts import (
    AS_ROBUST,
    BETTER,
    UNDECIDED,
    WORSE,
    Verdicts,
    fewest_items,
    judge_interval,
    judge_wordings,
    needed_items,
)
from metro_fast.robustness.words import interval, points

__all__ = ["Comparison", "TaskComparison"]

_NAMED = 3
"""Wordings that a sentence names; the others are counted."""


@dataclass(frozen=True)
class TaskComparison:
    """One task: second minus first over the same items under the same instructions.

    Attributes:
        task: Name of the task.
        item_count: Number of items.
        independent_count: Number of groups of items; of items, where these are independent.
        items_hash: SHA-256 of the items.
        preset: Scoring protocol.
        metric_label: Name of the task's metric in tables.
        first_mean: The first model's mean over instructions.
        second_mean: The second model's.
        difference: Difference of the means over instructions.
        p_value: Two-sided p that it is 0 (`exchange_p_value`).
        spread: Difference of the sigmas over instructions, with the noise of a finite set of items
            removed; None for one instruction.
        agreement: Share of (item, instruction) pairs with the same prediction, correct or not.
        unchanged: Whether no score differs by more than the noise of batching (`same_scores`), or
            every written answer is the same.
        margin: Differences up to this count as equal.
        instructions: The comparison under each instruction.
    """

    task: str
    item_count: int
    independent_count: int
    items_hash: str
    preset: str
    metric_label: str
    first_mean: float
    second_mean: float
    difference: PairedDifference
    p_value: float
    spread: SpreadDifference | None
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
    def effect_size(self) -> float:
        """Cohen's h of the two means, which compares tasks of different levels."""
        return cohens_h(self.first_mean, self.second_mean)

    @property
    def drop_rate(self) -> float | None:
        """The share of the first model's mean that is lost (`drop_rate`); None if it has none."""
        return drop_rate(self.second_mean, self.first_mean)

    @cached_property
    def broken(self) -> tuple[InstructionComparison, ...]:
        """The instructions under which the second model is shown to lose, the largest loss first.

        Their p, by Holm's correction over the instructions, is below .05, and their loss is not
        shown to be inside the margin.
        """
        return lost(self.instructions, margin=self.margin)

    @cached_property
    def verdicts(self) -> Verdicts:
        """The verdicts of the mean, of the spread and of the single wordings."""
        enough = self.independent_count >= fewest_items(self.margin)
        spread = None
        if self.spread is not None:
            spread = judge_interval(self.spread.interval, self.margin, enough=enough, more_is=WORSE)
        return Verdicts(
            judge_interval(
                self.difference.interval,
                self.margin,
                equal_within=self.difference.equal_within,
                enough=enough,
            ),
            spread,
            judge_wordings(self.instructions, self.margin, enough=enough),
        )

    @property
    def verdict(self) -> str:
        """`as robust`, `better`, `worse` or `undecided`, of the three `verdicts` together.

        `as robust` requires that the 95 % intervals of the mean difference and of the difference
        in spread are both inside ± margin, which is two one-sided tests at 2.5 % each, and that no
        wording is shown to have lost. It is `worse` if the mean, the spread or any wording is. A
        difference that is merely not significant does not show equivalence; it is `undecided`.
        """
        return self.verdicts.overall

    @property
    def needed_items(self) -> int:
        """About how many items would show equality within the margin (`needed_items`)."""
        return needed_items(
            self.difference.standard_error,
            self.item_count,
            self.margin,
            independent=self.independent_count,
        )


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

        Returns:
            Its comparison.

        Raises:
            MetroFastError: If the task was not compared.
        """
        for task in self.tasks:
            if task.task == name:
                return task
        names = ", ".join(task.task for task in self.tasks)
        raise MetroFastError(f"task {quoted(name)} was not compared, only {names}")

    @property
    def adjusted_p(self) -> dict[str, float]:
        """By name of task the p of its mean difference, by Holm's correction over the tasks."""
        adjusted = holm([task.p_value for task in self.tasks])
        return {task.task: p for task, p in zip(self.tasks, adjusted, strict=True)}

    def sentence(self, name: str) -> str:
        """Say in words what a task shows: the verdict, what broke, or what is missing.

        Args:
            name: Name of the task.

        Returns:
            One to three sentences.

        Raises:
            MetroFastError: If the task was not compared.
        """
        task = self.task(name)
        first, second = self.first, self.second
        margin = f"{100 * task.margin:g} point{'' if task.margin == 0.01 else 's'}"
        meaning = {
            AS_ROBUST: f"{second} is as good and as robust as {first} within {margin}",
            BETTER: f"{second} is better than {first}",
            WORSE: f"{second} is worse than {first}{_where(task)}",
            UNDECIDED: f"{second} is neither shown to differ from {first} nor to be equal to it",
        }[task.verdict]
        parts = [f"{meaning} ({_mean(task)})."]
        if task.broken:
            parts.append(_broken(task))
        if task.verdict == UNDECIDED:
            parts.append(_missing(task, margin))
        if task.unchanged:
            parts.append("No score differs: was the expert applied?")
        return " ".join(parts)


def _mean(task: TaskComparison) -> str:
    low, high = task.difference.interval
    return (
        f"{points(task.difference.mean)} points on average, 95 % interval {points(low)} to "
        f"{points(high)}"
    )


def _where(task: TaskComparison) -> str:
    """In what the second model is worse, where its mean is not."""
    verdicts = task.verdicts
    if verdicts.mean == WORSE:
        return ""
    which = [
        name
        for name, verdict in (
            ("some wordings", verdicts.wordings),
            ("its spread over wordings", verdicts.spread),
        )
        if verdict == WORSE
    ]
    but = ", although its mean is better" if verdicts.mean == BETTER else ""
    return f" in {' and '.join(which)}{but}"


def _broken(task: TaskComparison) -> str:
    """Which wordings lost how much."""
    named = [
        f"{row.instruction_id} loses {-100 * row.difference:.1f} points {interval(row.interval)}"
        for row in task.broken[:_NAMED]
    ]
    more = len(task.broken) - len(named)
    tail = f", and {more} more wording{'' if more == 1 else 's'} lose{'s' if more == 1 else ''}"
    return f"{', '.join(named)}{tail if more else ''}."


def _missing(task: TaskComparison, margin: str) -> str:
    """How many items would decide, and whether there are enough at all."""
    needed = task.needed_items
    about = round(needed, -(max(len(str(needed)) - 2, 0)))
    if needed > task.item_count:
        return f"To show equality within {margin}, it needs about {about:,} items."
    return (
        f"Equality of the means within {margin} is shown; that of the spread needs more "
        "wordings or items."
        if task.verdicts.mean == AS_ROBUST
        else f"About {about:,} items show equality within {margin} where there is no difference."
    )
