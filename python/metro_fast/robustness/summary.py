"""The tables of one model on one task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Any

from metro_fast.robustness.cochran import CochranQ
from metro_fast.robustness.control_checks import ControlCheck
from metro_fast.robustness.gap import SeenGap
from metro_fast.robustness.kinds import KindSpread
from metro_fast.robustness.over_wordings import OverWordings, over_wordings
from metro_fast.robustness.paired_wordings import (
    InstructionComparison,
    lost,
)
from metro_fast.robustness.scale import OnScale, on_scale
from metro_fast.robustness.spread import Spread
from metro_fast.robustness.statistics import Interval
from metro_fast.robustness.worst_case import WorstCase

__all__ = ["InstructionScore", "TaskSummary", "median_index"]


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
    ask for the right answer: they enter no other number, and `control_checks` has whether the model
    notices them. `against_median` compares every other instruction with the median one.
    `worst_case` is about items that are right under every wording, `kinds` about wordings, formats
    and orders of options apart, if there are several kinds.
    `task_item_count` counts all items of the task, `item_count` those that the numbers are about,
    and `independent_count` the groups among these.
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
    independent_count: int
    task_item_count: int
    instructions: tuple[InstructionScore, ...]
    mean: float
    chance: float | None
    majority_share: float
    gap: SeenGap | None
    variance: Spread | None
    cochran: CochranQ | None
    consistency: float | None
    against_median: tuple[InstructionComparison, ...] = ()
    worst_case: WorstCase | None = None
    kinds: tuple[KindSpread, ...] = ()
    controls: tuple[InstructionScore, ...] = ()
    control_checks: tuple[ControlCheck, ...] = ()

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
        return self.instructions[median_index([i.value for i in self.instructions])]

    @property
    def broken(self) -> tuple[InstructionComparison, ...]:
        """The instructions that are shown to be worse than the median one, the worst first.

        Their p, by Holm's correction over the instructions, is below .05.
        """
        return lost(self.against_median)

    @property
    def scaled(self) -> OnScale:
        """The numbers where 0 is guessing and 1 is perfect, and the spread by its room."""
        sigma = None if self.variance is None else self.variance.sigma
        return on_scale(self.mean, self.worst.value, sigma, self.chance)

    @property
    def over_wordings(self) -> OverWordings:
        """Saturation, combined performance score, drop rates and quantiles over the wordings."""
        spread = self.variance
        return over_wordings(
            [row.value for row in self.instructions],
            sigma=None if spread is None else spread.sigma,
            raw=None if spread is None else spread.raw,
        )

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
            "n_independent": self.independent_count,
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
            "variance": None
            if variance is None
            else variance._asdict() | {"interval": list(variance.interval)},
            "cochran_q": None if cochran is None else cochran._asdict(),
            "instructions": list(map(_row_record, self.instructions)),
            "over_wordings": {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in self.over_wordings._asdict().items()
            },
            "scaled": self.scaled._asdict(),
            "worst_case": None
            if self.worst_case is None
            else self.worst_case._asdict() | {"interval": list(self.worst_case.interval)},
            "kinds": [
                {"kind": row.kind, "n": row.instructions, "mean": row.mean}
                | {"sigma": None if row.spread is None else row.spread.sigma}
                for row in self.kinds
            ],
            "against_median": [
                {
                    "id": row.instruction_id,
                    "difference": row.difference,
                    "interval_95": list(row.interval),
                    "adjusted_p": row.adjusted_p,
                }
                for row in self.against_median
            ],
            **(
                {"controls": list(map(_control_record, self.controls, self.control_checks))}
                if self.controls
                else {}
            ),
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


def _control_record(row: InstructionScore, check: ControlCheck) -> dict[str, Any]:
    difference = check.difference
    return _row_record(row) | {
        "kind": check.kind,
        "wordings_mean": check.wordings_mean,
        "difference": None if difference is None else difference.mean,
        "interval": None if difference is None else list(difference.interval),
        "verdict": check.verdict,
    }


def median_index(values: Sequence[float]) -> int:
    """The first place of the median; of the lower one of two in the middle."""
    return values.index(median_low(values))
