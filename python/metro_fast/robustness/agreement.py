"""Agreement between instructions, and the accuracy of a constant answer."""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metro_fast.errors import MetroFastError

__all__ = ["consistency_rate", "flip_rates", "majority_share"]


def consistency_rate(predictions: ArrayLike) -> float:
    """Share of pairs of instructions that give an item the same answer, over all items.

    This is computed as in lm-eval's SCORE tasks (lm_eval/tasks/score/utils.py:220-240): agreeing
    unordered pairs over all unordered pairs. The formula in their README can be as large as 2.

    Args:
        predictions: `[P, N]`, index of the chosen answer; P >= 2.

    Returns:
        A number from 0 to 1.

    Raises:
        MetroFastError: If there are fewer than two instructions or no items.

    Example:
        >>> consistency_rate([[0, 1], [0, 2], [1, 2]])
        0.3333333333333333
    """
    counts = _answer_counts(predictions)
    prompts = int(counts[0].sum())
    if prompts < 2:
        raise MetroFastError(f"{prompts} instruction is given, but consistency compares at least 2")
    agreeing = sum(float((n * (n - 1)).sum() / 2) for n in counts)
    return agreeing / (len(counts) * prompts * (prompts - 1) / 2)


def flip_rates(predictions: ArrayLike) -> NDArray[np.float64]:
    """For each item, the share of instructions that do not give its most frequent answer.

    Args:
        predictions: `[P, N]`, index of the chosen answer.

    Returns:
        `[N]`, float64, 0 where all instructions agree.

    Raises:
        MetroFastError: If the array is not 2-D or is empty.

    Example:
        >>> flip_rates([[0, 1], [0, 2], [1, 2], [0, 3]])
        array([0.25, 0.5 ])
    """
    return np.array([1 - n.max() / n.sum() for n in _answer_counts(predictions)])


def majority_share(labels: Sequence[Hashable]) -> float:
    """Share of the most frequent label, which is the accuracy of the best constant answer.

    Args:
        labels: The correct labels, at least one.

    Returns:
        A number above 0 and at most 1.

    Raises:
        MetroFastError: If there are no labels.

    Example:
        >>> majority_share(["a", "b", "a"])
        0.6666666666666666
    """
    if len(labels) == 0:
        raise MetroFastError("no labels are given, expected at least one")
    counts: dict[Hashable, int] = {}
    for label in labels:
        counts[label] = counts.get(label, 0) + 1
    return max(counts.values()) / len(labels)


def _answer_counts(predictions: ArrayLike) -> list[NDArray[np.int64]]:
    """For each item, the number of times that each of its answers was given."""
    array = np.asarray(predictions)
    if array.ndim != 2 or array.size == 0:
        raise MetroFastError(
            f"predictions has shape {array.shape}, expected [instructions, items] with at least "
            "one of each"
        )
    return [np.unique(column, return_counts=True)[1] for column in array.T]
