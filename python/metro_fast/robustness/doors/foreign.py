"""The measurements of another harness, and the way from them to a cell."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from metro_fast._shown import quoted, shown
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.prompts import Instruction, Item, Prompt, Reject, Rendered, Task
from metro_fast.prompts.item import check_text
from metro_fast.prompts.source_report import SourceReport
from metro_fast.robustness.cell_record import CellRecord
from metro_fast.robustness.cells import Cell
from metro_fast.robustness.worded import prompts_hash
from metro_fast.scoring import Outcome

__all__ = ["Asked", "AskedError", "ForeignCell", "ForeignRead", "Gathering", "part"]


@dataclass(frozen=True)
class ForeignCell:
    """One model on one task, as another harness asked and answered it.

    Attributes:
        harness: `lm-eval`, `inspect` or `helm`.
        model_name: Name of the model.
        task: Name of the task.
        split: Part of the data.
        items: The items, in order of the file.
        inputs: The text that the model read for each item.
        outcomes: The answer to each item.
        correct: Whether the harness counted the answer as right; None if its log does not say so.
    """

    harness: str
    model_name: str
    task: str
    split: str
    items: tuple[Item, ...]
    inputs: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    correct: tuple[bool | None, ...]

    def __repr__(self) -> str:
        return (
            f"<ForeignCell {self.model_name} x {self.task} of {self.harness}; "
            f"{len(self.items)} items>"
        )

    def to_cell(
        self,
        *,
        task: str | None = None,
        task_type: str | None = None,
        instruction: Instruction | None = None,
        model_family: str = "unknown",
        metric: str | None = None,
    ) -> Cell:
        """The cell, from which every table is made.

        The log does not hold the model, so `model_hash` and `tokenizer_hash` are those of its name.

        Args:
            task: Name of the task in tables; by default the harness's. Two wordings of one task,
                which are two tasks to the harness, get the same name here.
            task_type: Kind of task; by default the instruction's, or the name of the task.
            instruction: The wording; by default one whose id is the harness's name of the task.
            model_family: Family whose seen labels apply.
            metric: How the task's answers are counted; by default accuracy, or the exact match of
                written answers if no item has choices.

        Returns:
            A cell whose preset is the name of the harness.

        Raises:
            MetroFastError: If the labels do not fit the metric, or accuracy is asked of items that
                have no choices.
        """
        kind = task_type or (instruction.task_type if instruction else task or self.task)
        wording = instruction or Instruction(
            self.task, kind, f"as {self.harness} words the task {self.task}", origin=self.harness
        )
        free = [item.id for item in self.items if not item.choices]
        usual = "exact_match" if len(free) == len(self.items) else "accuracy"
        named = Task(task or self.task, kind, self.items, self.split, metric or usual)
        if named.metric == "accuracy" and free:
            raise MetroFastError(
                f"{len(free)} of {len(self.items)} items of {self.task} have no choices, which "
                f"accuracy needs (the first is {quoted(free[0])}): give another metric"
            )
        prompts = tuple(
            Prompt(text, item.choices, item.answer, item.answer_text)
            for item, text in zip(self.items, self.inputs, strict=True)
        )
        rendered = Rendered(self.items, prompts, ())
        digest = hashlib.sha256(f"{self.harness}:{self.model_name}".encode()).hexdigest()
        record = CellRecord(
            model_name=self.model_name,
            model_family=model_family,
            model_hash=digest,
            tokenizer_hash=digest,
            task=named.name,
            task_type=kind,
            split=self.split,
            metric=named.metric,
            items_hash=named.sha256,
            instruction=wording,
            prompts_hash=prompts_hash(rendered),
            preset=self.harness,
            protocol={"harness": self.harness},
        )
        return Cell(record, named, rendered, self.outcomes)


class ForeignRead(NamedTuple):
    """A file of another harness, and what of it was not taken.

    Attributes:
        cell: What was taken.
        report: Counts of what was taken and, by reason, of what was not.
    """

    cell: ForeignCell
    report: SourceReport


class Asked(NamedTuple):
    """One item as it was asked and answered."""

    item: Item
    input: str
    outcome: Outcome
    correct: bool | None


class AskedError(Exception):
    """A sample cannot be taken: the reason to count it under, and the detail."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Gathering:
    """Samples taken one by one; what is wrong with one is counted and ends nothing.

    Args:
        source: The file.
    """

    def __init__(self, source: object) -> None:
        self._source = str(source)
        self._taken: dict[str, Asked] = {}
        self._rejects: list[Reject] = []

    def add(self, name: str, make: Callable[[], Asked]) -> None:
        """Take what `make` gives, or count why it could not be made."""
        try:
            asked = make()
            _check(asked)
        except AskedError as error:
            self._rejects.append(Reject(name, error.reason, error.detail))
        except (TypeError, MetroFastError) as error:
            self._rejects.append(Reject(name, "not an item", str(error)))
        else:
            if asked.item.id in self._taken:
                self._rejects.append(Reject(name, "id given twice", repr(asked.item.id)))
            else:
                self._taken[asked.item.id] = asked

    def finish(self, *, harness: str, model_name: str, task: str, split: str) -> ForeignRead:
        """All that was taken.

        Raises:
            FormatError: If nothing was.
        """
        report = SourceReport(self._source, len(self._taken), self._rejects)
        if not self._taken:
            first = f"; the first is {shown(self._rejects[0].detail, 500)}" if self._rejects else ""
            raise FormatError(f"{report}: no sample can be read{first}")
        items, inputs, outcomes, correct = zip(*self._taken.values(), strict=True)
        cell = ForeignCell(harness, model_name, task, split, items, inputs, outcomes, correct)
        return ForeignRead(cell, report)


def part(value: Any, key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """An entry of an object of JSON, of the expected kind.

    Raises:
        AskedError: If the value is not an object, or the entry is absent or of another kind.
    """
    if not isinstance(value, dict):
        raise AskedError("not an object", f"{where} is a {type(value).__name__}, not an object")
    found = value.get(key)
    if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
        names = [k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,))]
        raise AskedError(
            f"no {key}",
            f"{where}: {key} is {quoted(str(found)[:60])}, expected {' or '.join(names)}",
        )
    return found


def _check(asked: Asked) -> None:
    """Refuse what contradicts the harness's own verdict."""
    check_text(asked.input, "the input")
    check_text(asked.outcome.text or "", "the written answer")
    if asked.correct is None or asked.item.answer is None or asked.outcome.tied:
        return
    if asked.correct != (asked.outcome.prediction == asked.item.answer):
        raise AskedError(
            "another verdict",
            f"item {quoted(asked.item.id)}: the log counts it as "
            f"{'right' if asked.correct else 'wrong'},"
            f" with the choice {asked.outcome.prediction} and the answer {asked.item.answer}",
        )
