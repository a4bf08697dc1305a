"""The numbers of one model on one task, computed from its cells."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metro_fast.errors import MetroFastError
from metro_fast.robustness.agreement import consistency_rate, majority_share
from metro_fast.robustness.cells import Cell
from metro_fast.robustness.gap import SeenGap, seen_gap
from metro_fast.robustness.statistics import (
    CochranQ,
    Interval,
    PromptVariance,
    cochran_q,
    prompt_variance,
    wilson_interval,
)

__all__ = ["InstructionScore", "TaskSummary", "correct_matrix", "item_groups", "summarize"]


@dataclass(frozen=True)
class InstructionScore:
    """Accuracy under one instruction, with its Wilson 95 % interval."""

    instruction_id: str
    text: str
    seen: bool
    correct: int
    total: int
    accuracy: float
    interval: Interval
    ties: int


@dataclass(frozen=True)
class TaskSummary:
    """One model on one task.

    `chance` is the accuracy of a uniform guess. `majority_share` is the best accuracy of a constant
    answer, whether the same words or the same place in the list. With a single instruction there is
    no variance, test or consistency; if all instructions are seen or all unseen, there is no gap.
    `controls` are instructions that do not ask for the right answer: they enter no other number.
    """

    model_name: str
    model_hash: str
    task: str
    split: str
    preset: str
    items_hash: str
    item_count: int
    instructions: tuple[InstructionScore, ...]
    mean_accuracy: float
    chance: float
    majority_share: float
    gap: SeenGap | None
    variance: PromptVariance | None
    cochran: CochranQ | None
    consistency: float | None
    controls: tuple[InstructionScore, ...] = ()

    def __repr__(self) -> str:
        return (
            f"<TaskSummary of {self.model_name} on {self.task}: mean {self.mean_accuracy:.3f} over "
            f"{len(self.instructions)} instructions, {self.item_count} items>"
        )

    @property
    def worst(self) -> InstructionScore:
        """The instruction with the lowest accuracy; the first one if several are equal."""
        return min(self.instructions, key=lambda i: i.accuracy)

    @property
    def best(self) -> InstructionScore:
        """The instruction with the highest accuracy; the first one if several are equal."""
        return max(self.instructions, key=lambda i: i.accuracy)

    @property
    def median(self) -> InstructionScore:
        """The instruction with the median accuracy; the lower one of two in the middle."""
        middle = median_low(i.accuracy for i in self.instructions)
        return next(i for i in self.instructions if i.accuracy == middle)

    @property
    def spread(self) -> float:
        """Best minus worst accuracy (Sclar et al., arXiv 2310.11324)."""
        return self.best.accuracy - self.worst.accuracy

    def to_record(self) -> dict[str, Any]:
        """The numbers as plain JSON values."""
        gap, variance, cochran = self.gap, self.variance, self.cochran
        return {
            "model_name": self.model_name,
            "model_hash": self.model_hash,
            "task": self.task,
            "split": self.split,
            "metric": "acc",
            "preset": self.preset,
            "items_hash": self.items_hash,
            "n_items": self.item_count,
            "n_instructions": len(self.instructions),
            "mean": self.mean_accuracy,
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


def _row_record(row: InstructionScore) -> dict[str, Any]:
    return {
        "id": row.instruction_id,
        "seen": row.seen,
        "correct": row.correct,
        "n": row.total,
        "acc": row.accuracy,
        "wilson_95": list(row.interval),
        "ties": row.ties,
    }


def summarize(cells: Sequence[Cell], controls: Sequence[Cell] = ()) -> TaskSummary:
    """Summarize the cells of one model on one task.

    Args:
        cells: One cell per wording, over the same items.
        controls: Cells of controls, over the same items; they enter no average.

    Returns:
        The summary.

    Raises:
        MetroFastError: If there are no cells, or they differ in model, task, split, items or
            protocol.
        MissingExtraError: If scipy is not installed.
    """
    if not cells:
        raise MetroFastError("no cells are given, expected at least one")
    keys = {
        (r.model_name, r.model_hash, r.task, r.split, r.preset, r.items_hash)
        for r in (cell.record for cell in (*cells, *controls))
    }
    if len(keys) > 1:
        raise MetroFastError(
            "cells that differ in model, task, split, preset or items cannot be averaged: "
            f"{sorted(keys)}"
        )
    first = cells[0]
    correct = correct_matrix(cells)
    rows = tuple(_score_of(cell) for cell in cells)
    several, kinds = len(cells) > 1, {row.seen for row in rows}
    return TaskSummary(
        model_name=first.record.model_name,
        model_hash=first.record.model_hash,
        task=first.record.task,
        split=first.record.split,
        preset=first.record.preset,
        items_hash=first.record.items_hash,
        item_count=len(first.items),
        instructions=rows,
        mean_accuracy=float(correct.mean()),
        chance=float(np.mean([1 / len(item.choices) for item in first.items])),
        majority_share=max(
            majority_share([item.answer_text for item in first.items]),
            majority_share([item.answer for item in first.items]),
        ),
        gap=seen_gap(correct, [row.seen for row in rows], groups=item_groups(first))
        if len(kinds) == 2
        else None,
        variance=prompt_variance(correct) if several and correct.shape[1] > 1 else None,
        cochran=cochran_q(correct) if several else None,
        consistency=consistency_rate([cell.predictions for cell in cells]) if several else None,
        controls=tuple(_score_of(cell) for cell in controls),
    )


def correct_matrix(cells: Sequence[Cell]) -> NDArray[np.float64]:
    """`[P, N]`, float64: 1 where the answer to item i under instruction p is correct."""
    return np.array([cell.correct for cell in cells], dtype=np.float64)


def item_groups(cell: Cell) -> list[str] | None:
    """The group of every item, its own if it has none; None if no item has a group."""
    if all(item.group is None for item in cell.items):
        return None
    return [f"item {i.id}" if i.group is None else f"group {i.group}" for i in cell.items]


def _score_of(cell: Cell) -> InstructionScore:
    correct, total = sum(cell.correct), len(cell.items)
    return InstructionScore(
        instruction_id=cell.record.instruction.id,
        text=cell.record.instruction.text,
        seen=cell.record.seen,
        correct=correct,
        total=total,
        accuracy=correct / total,
        interval=wilson_interval(correct, total),
        ties=cell.ties,
    )
