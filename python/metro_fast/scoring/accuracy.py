"""Predictions from the scores of choices: their accuracy, their margins, their ties."""

import math
from collections.abc import Sequence

from metro_fast.errors import MetroFastError

__all__ = ["accuracy", "margins", "predictions", "tie_count"]


def predictions(scores: Sequence[Sequence[float]]) -> list[int]:
    """Choose the best choice of each item; the first one wins a tie.

    Args:
        scores: `[items][choices]`; higher is better. Items may differ in their choices.

    Returns:
        One index per item.

    Raises:
        MetroFastError: If an item has no scores, or one is NaN.

    Example:
        >>> predictions([[-2.0, -1.0, -1.0], [0.0, -3.0]])
        [1, 0]
    """
    chosen: list[int] = []
    for index, row in enumerate(scores):
        if len(row) == 0:
            raise MetroFastError(f"item {index} has no scores; give one per choice")
        if any(math.isnan(score) for score in row):
            raise MetroFastError(f"item {index} has the score NaN in {list(row)}")
        chosen.append(max(range(len(row)), key=row.__getitem__))
    return chosen


def accuracy(scores: Sequence[Sequence[float]], answers: Sequence[int]) -> float:
    """Compute the share of items whose best choice is the right one.

    Args:
        scores: `[items][choices]`; higher is better.
        answers: Index of the right choice of each item.

    Returns:
        A number from 0 to 1.

    Raises:
        MetroFastError: If there are no items, the lengths differ, or an answer is not the index of
            a choice.

    Example:
        >>> accuracy([[-2.0, -1.0], [0.0, -3.0]], [1, 1])
        0.5
    """
    if len(scores) != len(answers):
        raise MetroFastError(
            f"there are {len(scores)} rows of scores for {len(answers)} answers; give one row per "
            "answer"
        )
    if len(scores) == 0:
        raise MetroFastError("there are no items; an accuracy needs at least 1")
    for index, (row, answer) in enumerate(zip(scores, answers, strict=True)):
        if not 0 <= answer < len(row):
            raise MetroFastError(
                f"item {index}: the answer {answer} is not the index of one of {len(row)} choices"
            )
    chosen = predictions(scores)
    return sum(p == a for p, a in zip(chosen, answers, strict=True)) / len(chosen)


def margins(scores: Sequence[Sequence[float]]) -> list[float]:
    """Measure by how much the best choice of each item leads the second.

    Args:
        scores: `[items][choices]`, at least two choices per item.

    Returns:
        One number >= 0 per item, in the unit of the scores; 0 is a tie.

    Raises:
        MetroFastError: If an item has fewer than two scores, or one is NaN.

    Example:
        >>> margins([[-2.0, -0.5], [1.0, 1.0]])
        [1.5, 0.0]
    """
    predictions(scores)
    result: list[float] = []
    for index, row in enumerate(scores):
        if len(row) < 2:
            raise MetroFastError(f"item {index} has {len(row)} score; a margin needs 2")
        second, first = sorted(row)[-2:]
        # Equal infinities would give NaN.
        result.append(0.0 if first == second else first - second)
    return result


def tie_count(scores: Sequence[Sequence[float]]) -> int:
    """Count the items with several best choices, of which the first was taken.

    Many ties mean that the model's precision is too low: in bf16 they have silently brought
    accuracies near 100 % (babylm/evaluation-pipeline-2025 issue 34).

    Args:
        scores: `[items][choices]`, at least two choices per item.

    Returns:
        The count.

    Raises:
        MetroFastError: If an item has fewer than two scores, or one is NaN.

    Example:
        >>> tie_count([[-2.0, -1.0], [1.0, 1.0]])
        1
    """
    return margins(scores).count(0.0)
