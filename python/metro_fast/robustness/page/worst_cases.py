"""Items that show where a wording breaks a model."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metro_fast.robustness.agreement import flip_rates
from metro_fast.robustness.cells import Cell

__all__ = ["FlippedItem", "WorstExample", "most_flipped", "worst_example"]


@dataclass(frozen=True)
class WorstExample:
    """The worst instruction, and an item that it loses and the best one gets right, if any."""

    instruction_id: str
    text: str
    accuracy: float
    best_id: str
    best_accuracy: float
    item_id: str | None
    item_input: str | None
    given: str | None
    right: str | None


@dataclass(frozen=True)
class FlippedItem:
    """An item, its most telling input, and who answered what.

    `answers` maps a given answer to the ids of the instructions under which it was given, the most
    frequent first.
    """

    item_id: str
    item_input: str
    right: str
    flip_rate: float
    answers: tuple[tuple[str, tuple[str, ...]], ...]


def worst_example(cells: Sequence[Cell]) -> WorstExample:
    """Find the worst instruction of a task and an item that shows it.

    Args:
        cells: Cells of one model on one task.

    Returns:
        The instruction, and of the items that only the best instruction gets right the one that
        the worst one is surest about.
    """
    worst = min(cells, key=lambda cell: cell.accuracy)
    best = max(cells, key=lambda cell: cell.accuracy)
    lost = [i for i, (w, b) in enumerate(zip(worst.correct, best.correct, strict=True)) if b > w]
    # By how much the answer trails the wrong choice: ties and noise come last.
    index = max(
        lost,
        key=lambda i: max(worst.scores[i]) - worst.scores[i][worst.items[i].answer],
        default=None,
    )
    item = None if index is None else worst.items[index]
    return WorstExample(
        instruction_id=worst.record.instruction.id,
        text=worst.record.instruction.text,
        accuracy=worst.accuracy,
        best_id=best.record.instruction.id,
        best_accuracy=best.accuracy,
        item_id=None if item is None else item.id,
        item_input=None if index is None else worst.inputs[index],
        given=None if item is None or index is None else item.choices[worst.predictions[index]],
        right=None if item is None else item.answer_text,
    )


def most_flipped(cells: Sequence[Cell], *, count: int) -> list[FlippedItem]:
    """Items whose answer depends most on the wording.

    Args:
        cells: Cells of one model on one task.
        count: How many at most.

    Returns:
        Items by falling flip rate, those that never flip left out.
    """
    rates = flip_rates([cell.predictions for cell in cells])
    found: list[FlippedItem] = []
    for index in np.argsort(-rates, kind="stable")[:count].tolist():
        if rates[index] == 0:
            break
        item = cells[0].items[index]
        by_answer: dict[str, list[str]] = {}
        for cell in cells:
            answer = item.choices[cell.predictions[index]]
            by_answer.setdefault(answer, []).append(cell.record.instruction.id)
        answers = sorted(by_answer.items(), key=lambda pair: -len(pair[1]))
        best = max(cells, key=lambda cell: cell.accuracy)
        found.append(
            FlippedItem(
                item_id=item.id,
                item_input=best.inputs[index],
                right=item.answer_text,
                flip_rate=float(rates[index]),
                answers=tuple((answer, tuple(ids)) for answer, ids in answers),
            )
        )
    return found
