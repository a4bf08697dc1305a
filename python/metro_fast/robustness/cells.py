"""A cell of the grid: one model on one task in the words of one instruction, item by item.

Statistics need nothing but cells, so every table can be recomputed from saved cells; their files
are in `cell_files`.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.prompts import Item, Prompt, Reject, Rendered, Task, by_reason
from metro_fast.prompts.item import check_text
from metro_fast.robustness.cell_record import CellRecord
from metro_fast.robustness.worded import labels_of, prompts_hash
from metro_fast.scoring import Answer, Metric, Outcome, find_metric, predictions

__all__ = ["Cell"]


@dataclass(frozen=True)
class Cell:
    """One model's answers to the items of a task in the words of one instruction.

    An item that the instruction cannot word is a reject of the cell and has no answer in it.

    Args:
        record: The model, task, instruction and protocol.
        task: The task with all its items.
        rendered: The items that the instruction words, their prompts, and its rejects.
        outcomes: The answer to each prompt.

    Raises:
        MetroFastError: If the lengths do not agree, an outcome contradicts its prompt, the labels
            do not fit the task's metric, or the items or prompts are not those that the record
            identifies.
    """

    record: CellRecord
    task: Task
    rendered: Rendered
    outcomes: tuple[Outcome, ...]

    def __post_init__(self) -> None:
        record, count = self.record, len(self.rendered.items)
        where = f"cell {quoted(record.task)} x {quoted(record.instruction.id)}"
        if not count == len(self.rendered.prompts) == len(self.outcomes):
            raise MetroFastError(
                f"{where} has {count} items, {len(self.rendered.prompts)} prompts and "
                f"{len(self.outcomes)} outcomes, expected equal numbers"
            )
        if count == 0:
            raise MetroFastError(f"{where} has no item that its instruction can word")
        for item, prompt, outcome in zip(self.items, self.prompts, self.outcomes, strict=True):
            _check_outcome(f"{where}, item {quoted(item.id)}", prompt, outcome)
        for label, hashed, known in (
            ("items", self.task.sha256, record.items_hash),
            ("prompts", prompts_hash(self.rendered), record.prompts_hash),
        ):
            if hashed != known:
                raise MetroFastError(
                    f"{where}: the {label} have the hash {hashed}, so they are not those of its "
                    f"{label}_hash {known}"
                )
        self.metric.check([item.answer_text for item in self.items])

    def __repr__(self) -> str:
        record = self.record
        return (
            f"<Cell {record.model_name} x {record.task} x {record.instruction.id}; "
            f"{self.metric.label} {self.value:.3f} on {len(self.items)} items>"
        )

    @property
    def items(self) -> tuple[Item, ...]:
        """The items that the instruction can word, in order."""
        return self.rendered.items

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """The prompt of each item."""
        return self.rendered.prompts

    @property
    def rejects(self) -> tuple[Reject, ...]:
        """The items that the instruction cannot word, each with its reason."""
        return self.rendered.rejects

    @functools.cached_property
    def metric(self) -> Metric:
        """How the answers are counted."""
        return find_metric(self.record.metric)

    @functools.cached_property
    def predictions(self) -> list[int]:
        """Index of the chosen one of each prompt's choices, or −1."""
        return [outcome.prediction for outcome in self.outcomes]

    @functools.cached_property
    def correct(self) -> list[bool]:
        """For each item, whether it is answered right: as a whole, where the metric has parts."""
        if self.metric.binary:
            return [value == 1 for value in self.values.tolist()]
        return [answer.right or answer.given == answer.gold for answer in self.answers]

    @functools.cached_property
    def answers(self) -> list[Answer]:
        """The answers in the words of the items, so that two readings of an item can be compared.

        A written answer to a prompt with choices that names none of them is empty.
        """
        return [
            _answer(item, prompt, outcome)
            for item, prompt, outcome in zip(self.items, self.prompts, self.outcomes, strict=True)
        ]

    @functools.cached_property
    def parts(self) -> NDArray[np.float64]:
        """`[items, k]`: the counts of each item, whose sums give the metric."""
        return self.metric.parts(self.answers)

    @functools.cached_property
    def values(self) -> NDArray[np.float64]:
        """`[items]`: a value for each item, whose mean is the metric (`Metric.item_values`)."""
        return self.metric.item_values(self.parts)

    @functools.cached_property
    def value(self) -> float:
        """The task's metric, from 0 to 1."""
        return float(self.metric.value(self.parts.sum(0)))

    @property
    def ties(self) -> int:
        """Number of items with several best choices."""
        return sum(outcome.tied for outcome in self.outcomes)

    @property
    def unread(self) -> int:
        """Number of written answers that name none of the choices."""
        return sum(
            bool(prompt.choices) and outcome.prediction < 0
            for prompt, outcome in zip(self.prompts, self.outcomes, strict=True)
        )

    @property
    def cut(self) -> int:
        """Number of prompts that lost tokens because they were too long."""
        return sum(outcome.cut_tokens > 0 for outcome in self.outcomes)

    def take(self, ids: Iterable[str]) -> "Cell":
        """The cell of some of its items, in their order here.

        Args:
            ids: Ids of items that the instruction can word.

        Returns:
            A cell whose task has these items alone; itself, if these are all.

        Raises:
            MetroFastError: If the cell has no answer to one of the items.
        """
        wanted = set(ids)
        lacking = sorted(wanted - {item.id for item in self.items})
        if lacking:
            raise MetroFastError(f"{quoted(self)} has no answer to item {quoted(lacking[0])}")
        if len(wanted) == len(self.task):
            return self
        kept = [i for i, item in enumerate(self.items) if item.id in wanted]
        items = tuple(self.items[i] for i in kept)
        rendered = Rendered(items, tuple(self.prompts[i] for i in kept), ())
        task = replace(self.task, items=items)
        record = replace(self.record, items_hash=task.sha256, prompts_hash=prompts_hash(rendered))
        return Cell(record, task, rendered, tuple(self.outcomes[i] for i in kept))

    def noted(self, record: CellRecord) -> "Cell":
        """The same answers under a record with other notes.

        Args:
            record: A record of the same identity.

        Returns:
            The cell; itself, if the record is the same.
        """
        if record == self.record:
            return self
        task = replace(
            self.task,
            name=record.task,
            task_type=record.task_type,
            split=record.split,
            metric=record.metric,
        )
        return Cell(record, task, self.rendered, self.outcomes)

    @property
    def rejects_by_reason(self) -> dict[str, int]:
        """Number of rejects of each reason."""
        return by_reason(self.rejects)


def _check_outcome(where: str, prompt: Prompt, outcome: Outcome) -> None:
    count = len(prompt.choices)
    if outcome.scores is not None:
        if len(outcome.scores) != count:
            raise MetroFastError(f"{where} has {len(outcome.scores)} scores, {count} choices")
        if any(score != score for score in outcome.scores):
            raise MetroFastError(f"{where} has a score of NaN")
        if outcome.prediction != predictions([outcome.scores])[0]:
            raise MetroFastError(
                f"{where} has the prediction {outcome.prediction}, which is not the first choice "
                "with the best score"
            )
    if outcome.text is not None:
        check_text(outcome.text, f"{where}: the written answer")
    if not -1 <= outcome.prediction < count:
        raise MetroFastError(f"{where} has the prediction {outcome.prediction}, {count} choices")


def _answer(item: Item, prompt: Prompt, outcome: Outcome) -> Answer:
    if outcome.prediction >= 0:
        given = labels_of(item, prompt)[outcome.prediction]
        return Answer(item.answer_text, given, outcome.prediction == prompt.answer)
    given = "" if prompt.choices or outcome.text is None else outcome.text
    return Answer(item.answer_text, given, right=False)
