"""The numbers of one model on one task, computed from its cells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Any

from metro_fast.robustness.agreement import consistency_rate
from metro_fast.robustness.baselines import chance, constant_answer
from metro_fast.robustness.cells import Cell
from metro_fast.robustness.common_items import (
    answer_codes,
    check_together,
    item_groups,
    on_common_items,
    value_matrix,
)
from metro_fast.robustness.gap import SeenGap, seen_gap
from metro_fast.robustness.resampling import score_interval
from metro_fast.robustness.statistics import (
    CochranQ,
    Interval,
    PromptVariance,
    cochran_q,
    prompt_variance,
)

__all__ = ["InstructionScore", "TaskSummary", "summarize"]


@dataclass(frozen=True)
class InstructionScore:
    """One instruction: the task's metric with its 95 % interval, and the counts behind it.

    Attributes:
        instruction_id: Id of the instruction.
        text: Its template.
        seen: Whether the model's family was trained with it.
        value: The task's metric, from 0 to 1.
        interval: Wilson's interval if items score 0 or 1, else a bootstrap over items.
        correct: Number of items that are answered right.
        total: Number of items.
        ties: Number of items with several best choices.
        unread: Number of written answers that name none of the choices.
        cut: Number of prompts that lost tokens because they were too long.
        rejects: Number of items that the instruction cannot word, by reason.
    """

    instruction_id: str
    text: str
    seen: bool
    value: float
    interval: Interval
    correct: int
    total: int
    ties: int
    unread: int
    cut: int
    rejects: Mapping[str, int]


@dataclass(frozen=True)
class TaskSummary:
    """One model on one task, over the items that all its wordings can word.

    `chance` is the value of a uniform guess, by expected counts; None without choices.
    `majority_share` is the best value of a constant answer, whether the same words or the same
    place in the list. With a single instruction there is no variance, test or consistency; if all
    instructions are seen or all unseen, there is no gap. `controls` are instructions that do not
    ask for the right answer: they enter no other number. `task_item_count` counts all items of the
    task, `item_count` those that the numbers are about.
    """

    model_name: str
    model_hash: str
    task: str
    split: str
    metric: str
    metric_label: str
    binary: bool
    preset: str
    items_hash: str
    item_count: int
    task_item_count: int
    instructions: tuple[InstructionScore, ...]
    mean: float
    chance: float | None
    majority_share: float
    gap: SeenGap | None
    variance: PromptVariance | None
    cochran: CochranQ | None
    consistency: float | None
    controls: tuple[InstructionScore, ...] = ()

    def __repr__(self) -> str:
        return (
            f"<TaskSummary of {self.model_name} on {self.task}: {self.metric_label} "
            f"{self.mean:.3f} over {len(self.instructions)} instructions, {self.item_count} items>"
        )

    @property
    def worst(self) -> InstructionScore:
        """The instruction with the lowest value; the first one if several are equal."""
        return min(self.instructions, key=lambda i: i.value)

    @property
    def best(self) -> InstructionScore:
        """The instruction with the highest value; the first one if several are equal."""
        return max(self.instructions, key=lambda i: i.value)

    @property
    def median(self) -> InstructionScore:
        """The instruction with the median value; the lower one of two in the middle."""
        middle = median_low(i.value for i in self.instructions)
        return next(i for i in self.instructions if i.value == middle)

    @property
    def seen_mean(self) -> float | None:
        """Mean over the seen instructions; None without any."""
        return _mean_of([row.value for row in self.instructions if row.seen])

    @property
    def unseen_mean(self) -> float | None:
        """Mean over the unseen instructions; None without any."""
        return _mean_of([row.value for row in self.instructions if not row.seen])

    @property
    def spread(self) -> float:
        """Best minus worst value (Sclar et al., arXiv 2310.11324)."""
        return self.best.value - self.worst.value

    def to_record(self) -> dict[str, Any]:
        """The numbers as plain JSON values."""
        gap, variance, cochran = self.gap, self.variance, self.cochran
        return {
            "model_name": self.model_name,
            "model_hash": self.model_hash,
            "task": self.task,
            "split": self.split,
            "metric": self.metric,
            "preset": self.preset,
            "items_hash": self.items_hash,
            "n_items": self.item_count,
            "n_task_items": self.task_item_count,
            "n_instructions": len(self.instructions),
            "mean": self.mean,
            "chance": self.chance,
            "majority_share": self.majority_share,
            "worst": self.worst.instruction_id,
            "median": self.median.instruction_id,
            "best": self.best.instruction_id,
            "spread": self.spread,
            "consistency": self.consistency,
            "seen_gap": None
            if gap is None
            else gap._asdict() | {"interval": list(gap.interval), "note": gap.note},
            "variance": None if variance is None else variance._asdict(),
            "cochran_q": None if cochran is None else cochran._asdict(),
            "instructions": list(map(_row_record, self.instructions)),
            **({"controls": list(map(_row_record, self.controls))} if self.controls else {}),
        }


def _mean_of(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _row_record(row: InstructionScore) -> dict[str, Any]:
    return {
        "id": row.instruction_id,
        "seen": row.seen,
        "value": row.value,
        "interval_95": list(row.interval),
        "correct": row.correct,
        "n": row.total,
        "ties": row.ties,
        "unread": row.unread,
        "cut": row.cut,
        "rejects": dict(row.rejects),
    }


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
    several, kinds = len(cells) > 1, {row.seen for row in rows}
    ids = {item.id for item in first.items}
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
        task_item_count=len(task),
        instructions=rows,
        mean=float(values.mean()),
        chance=chance(cells),
        majority_share=constant_answer(first),
        gap=seen_gap(values, [row.seen for row in rows], groups=groups)
        if len(kinds) == 2
        else None,
        variance=prompt_variance(values) if several and values.shape[1] > 1 else None,
        cochran=cochran_q(values) if several else None,
        consistency=consistency_rate(answer_codes(cells)) if several else None,
        controls=tuple(
            _score_of(cell.take(ids & {item.id for item in cell.items}), cell)
            for cell in check_together(controls, whole[0])
        ),
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
