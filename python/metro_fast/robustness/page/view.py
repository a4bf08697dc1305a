"""The models of the page: their numbers, and their references on each task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

from metro_fast.robustness.comparison import Comparison, TaskComparison
from metro_fast.robustness.paired_wordings import InstructionComparison
from metro_fast.robustness.report import Report
from metro_fast.robustness.summary import TaskSummary
from metro_fast.robustness.verdicts import WORSE

__all__ = ["BrokenCell", "Card", "ModelView", "Reference", "provenance", "views"]


class Card(Protocol):
    """The part of the card of a model that the page reads."""

    @property
    def name(self) -> str:
        """The name that the model has in its report."""

    @property
    def size(self) -> float | None:
        """Its number of parameters, if it is known."""


class Reference(NamedTuple):
    """The model that another one is compared with on a task, and the comparison."""

    comparison: Comparison
    task: TaskComparison


class BrokenCell(NamedTuple):
    """A wording of a task that is shown to have lost.

    Attributes:
        task: Name of the task.
        wording: Id of the instruction.
        value: The metric there.
        within: Against the model's own median wording, if it is shown to be worse than that.
        against: Against the reference, if it is shown to be worse than that.
        reference: Name of the reference.
    """

    task: str
    wording: str
    value: float
    within: InstructionComparison | None
    against: InstructionComparison | None
    reference: str

    @property
    def loss(self) -> float:
        """The larger one of the two losses."""
        return max(-row.difference for row in (self.within, self.against) if row is not None)

    @property
    def mark(self) -> str:
        """The mark in the matrix, which does not need color."""
        within = "" if self.within is None else "\N{MULTIPLICATION X}"
        return within + ("" if self.against is None else "\N{BLACK DOWN-POINTING TRIANGLE}")


@dataclass(frozen=True)
class ModelView:
    """One model of the page.

    Attributes:
        report: Its report.
        references: By name of task, what it is compared with; without those that have none.
        size: Its number of parameters, or the bytes of its file; None if neither is known.
    """

    report: Report
    references: Mapping[str, Reference]
    size: float | None = None

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.report.model_name

    @cached_property
    def summaries(self) -> tuple[TaskSummary, ...]:
        """The numbers of each task."""
        return tuple(self.report.summary(task) for task in self.report.tasks)

    @cached_property
    def broken(self) -> tuple[BrokenCell, ...]:
        """The cells that are shown to have lost, the largest loss first."""
        found = []
        for summary in self.summaries:
            reference = self.references.get(summary.task)
            within = {row.instruction_id: row for row in summary.broken}
            lost = () if reference is None else reference.task.broken
            against = {row.instruction_id: row for row in lost}
            values = {row.instruction_id: row.value for row in summary.instructions}
            found += [
                BrokenCell(
                    summary.task,
                    name,
                    values[name],
                    within.get(name),
                    against.get(name),
                    "" if reference is None else reference.comparison.first,
                )
                for name in values
                if name in within or name in against
            ]
        return tuple(sorted(found, key=lambda cell: -cell.loss))

    @property
    def is_worse(self) -> bool:
        """Whether anything is shown to be wrong: a broken cell, or a task that is worse."""
        worse = (each.task.verdict == WORSE for each in self.references.values())
        return bool(self.broken) or any(worse)

    @cached_property
    def comparisons(self) -> tuple[Comparison, ...]:
        """The comparisons with its references."""
        by_first = {each.comparison.first: each.comparison for each in self.references.values()}
        return tuple(by_first.values())

    @property
    def cell_count(self) -> int:
        """Number of its cells without those of controls."""
        return sum(len(summary.instructions) for summary in self.summaries)


def provenance(summary: TaskSummary) -> str:
    """Where a number of a task is from: model, items, split, protocol and n."""
    return (
        f"model {summary.model_hash[:8]}, items {summary.items_hash[:8]}, split {summary.split}, "
        f"{summary.preset}, n = {summary.item_count}"
    )


def views(
    reports: Sequence[Report], comparisons: Sequence[Comparison], sizes: Mapping[str, float]
) -> list[ModelView]:
    """Every report with the first comparison of each task in which it is the second model."""
    found = []
    for report in reports:
        references: dict[str, Reference] = {}
        for comparison in comparisons:
            if comparison.second == report.model_name:
                for task in comparison.tasks:
                    references.setdefault(task.task, Reference(comparison, task))
        found.append(ModelView(report, references, sizes.get(report.model_name)))
    return found
