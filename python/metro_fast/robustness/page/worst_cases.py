"""Items whose answers depend on the wording."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metro_fast.robustness.agreement import flip_rates
from metro_fast.robustness.cells import Cell
from metro_fast.robustness.common_items import answer_codes

__all__ = ["FlippedItem", "LostItem", "WorstExample", "most_flipped", "worst_example"]


@dataclass(frozen=True)
class LostItem:
    """An item that only the best instruction gets right, and the answer under the worst one."""

    id: str
    input: str
    given: str
    right: str


@dataclass(frozen=True)
class WorstExample:
    """The worst and the best instruction, and an item that the worst one loses, if there is one."""

    instruction_id: str
    value: float
    best_id: str
    best_value: float
    item: LostItem | None


@dataclass(frozen=True)
class FlippedItem:
    """An item, its input under the best instruction, and its answers.

    `answers` has each given answer with the ids of the instructions under which it was given, the
    most frequent answer first.
    """

    item_id: str
    item_input: str
    right: str
    flip_rate: float
    answers: tuple[tuple[str, tuple[str, ...]], ...]


def worst_example(cells: Sequence[Cell]) -> WorstExample:
    """Find the worst instruction of a task, and an item that shows why it is the worst.

    Args:
        cells: Cells of one model on one task.

    Returns:
        The instruction and, among the items that only the best instruction gets right, the one
        with the largest margin of the wrong answer.
    """
    worst = min(cells, key=lambda cell: cell.value)
    best = max(cells, key=lambda cell: cell.value)
    lost = [i for i, (w, b) in enumerate(zip(worst.correct, best.correct, strict=True)) if b > w]
    # By the margin of the wrong answer, so that ties and noise come last.
    index = max(
        lost,
        key=lambda i: _margin(worst, i),
        default=None,
    )
    return WorstExample(
        instruction_id=worst.record.instruction.id,
        value=worst.value,
        best_id=best.record.instruction.id,
        best_value=best.value,
        item=None if index is None else _lost_item(worst, index),
    )


def _margin(cell: Cell, index: int) -> float:
    """By how much the given answer is above the right one; 0 for written answers."""
    scores, answer = cell.outcomes[index].scores, cell.prompts[index].answer
    if scores is None or answer is None:
        return 0.0
    return max(scores) - scores[answer]


def _lost_item(cell: Cell, index: int) -> LostItem:
    item = cell.items[index]
    return LostItem(item.id, cell.prompts[index].input, _shown(cell, index), item.answer_text)


def _shown(cell: Cell, index: int) -> str:
    """The answer to an item, as the page shows it."""
    given, text = cell.answers[index].given, cell.outcomes[index].text
    if given:
        return given
    return f"(names no choice) {text}" if text else "(nothing)"


def most_flipped(cells: Sequence[Cell], *, count: int) -> list[FlippedItem]:
    """The items whose answers depend most on the wording.

    Args:
        cells: Cells of one model on one task.
        count: Most items to return.

    Returns:
        Items by decreasing flip rate, without those that never flip.
    """
    rates = flip_rates(answer_codes(cells))
    found: list[FlippedItem] = []
    for index in np.argsort(-rates, kind="stable")[:count].tolist():
        if rates[index] == 0:
            break
        item = cells[0].items[index]
        by_answer: dict[str, list[str]] = {}
        for cell in cells:
            answer = _shown(cell, index)
            by_answer.setdefault(answer, []).append(cell.record.instruction.id)
        answers = sorted(by_answer.items(), key=lambda pair: -len(pair[1]))
        best = max(cells, key=lambda cell: cell.value)
        found.append(
            FlippedItem(
                item_id=item.id,
                item_input=best.prompts[index].input,
                right=item.answer_text,
                flip_rate=float(rates[index]),
                answers=tuple((answer, tuple(ids)) for answer, ids in answers),
            )
        )
    return found
