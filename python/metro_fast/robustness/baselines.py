"""Values of a task that need no model: a uniform guess, and the best constant answer."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from metro_fast.robustness.agreement import majority_share
from metro_fast.robustness.cells import Cell
from metro_fast.scoring import Answer

__all__ = ["chance", "constant_answer"]


def chance(cells: Sequence[Cell]) -> float | None:
    """The value of a uniform guess among the choices of each reading.

    Args:
        cells: Cells of one task, over the same items.

    Returns:
        The value, by expected counts; None if a prompt has no choices.
    """
    counts = [len(prompt.choices) for cell in cells for prompt in cell.prompts]
    if 0 in counts:
        return None
    first = cells[0]
    if first.metric.binary:
        return float(np.mean([1 / count for count in counts]))
    if not all(item.choices for item in first.items):
        return None
    # Expected counts: those of every place in the list, by its share among an item's choices.
    sizes = np.array([len(item.choices) for item in first.items])
    expected = sum(
        first.metric.parts(_constant_place(first, place))
        * (place < sizes)[:, None]
        / sizes[:, None]
        for place in range(sizes.max())
    )
    return float(first.metric.value(np.asarray(expected).sum(0)))


def _constant_place(cell: Cell, place: int) -> list[Answer]:
    """Answers that are always the choice at one place, or the last one where there are fewer."""
    given = [min(place, len(item.choices) - 1) for item in cell.items]
    return [
        Answer(item.answer_text, item.choices[k], k == item.answer)
        for item, k in zip(cell.items, given, strict=True)
    ]


def constant_answer(cell: Cell) -> float:
    """The best value of one answer to all items: the same words, or the same place in the list.

    Args:
        cell: Any cell of the task.

    Returns:
        The value, from 0 to 1.
    """
    gold = [item.answer_text for item in cell.items]
    places = [item.answer for item in cell.items if item.answer is not None]
    if cell.metric.binary:
        shares = [majority_share(gold)]
        return max(shares + ([majority_share(places)] if len(places) == len(gold) else []))
    # Of labels that are rarer than the 50 most frequent ones none is the best constant answer of a
    # benchmark with labels; with free texts, all are about equally bad.
    frequent = [label for label, _ in Counter(gold).most_common(50)]
    return max(
        cell.metric.of([Answer(right, label, right == label) for right in gold])
        for label in frequent
    )
