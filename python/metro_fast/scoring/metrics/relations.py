"""Counts of relation extraction, and the F1 scores of counts: one home for every score of them."""

import re
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError

__all__ = [
    "check_pairs",
    "check_strings",
    "directed_relation",
    "f1_of_counts",
    "macro_f1_of_counts",
    "micro_f1_parts",
    "relation_parts",
]

_DIRECTED = re.compile(r"(?P<relation>.+)\((?:e1,e2|e2,e1)\)")


def check_strings(labels: Iterable[str]) -> None:
    """Refuse labels that are not strings.

    Raises:
        TypeError: If a label is not a string.
    """
    for label in labels:
        if not isinstance(label, str):
            raise TypeError(f"label {quoted(label)} is not a string")


def check_pairs(gold: Sequence[str], predicted: Sequence[str]) -> None:
    """Check that there is one predicted label for each right one.

    Raises:
        MetroFastError: If there are no labels or the lengths differ.
        TypeError: If a label is not a string.
    """
    if len(gold) != len(predicted):
        raise MetroFastError(
            f"there are {len(gold)} gold labels for {len(predicted)} predicted ones; give one each "
            "per item"
        )
    if not gold:
        raise MetroFastError("there are no labels; give at least 1")
    check_strings(gold)
    check_strings(predicted)


def directed_relation(label: str, other_label: str) -> str | None:
    """The relation without its direction, or None for the other label.

    Raises:
        MetroFastError: If the label has no direction.
    """
    if label == other_label:
        return None
    match = _DIRECTED.fullmatch(label)
    if match is None:
        raise MetroFastError(
            f"label {quoted(label)} has no direction; give Relation(e1,e2), Relation(e2,e1) "
            f"or {quoted(other_label)}"
        )
    return match["relation"]


def relation_parts(
    gold: Sequence[str], predicted: Sequence[str], other_label: str
) -> NDArray[np.float64]:
    """Count hits, guesses and right labels of each item and relation, as SemEval-2010 Task 8 does.

    Args:
        gold: Right labels, `Relation(e1,e2)`, `Relation(e2,e1)` or `other_label`.
        predicted: Predicted labels in the same order; `""` for a skipped item.
        other_label: The label that is not a relation.

    Returns:
        `[N, 3 R]`, float64: hits, guesses and right labels of each of the R relations of `gold`, in
        the order of their names. A guess of a relation that is not in `gold` has no column, since
        the scorer's loop is over the relations of the key.

    Raises:
        MetroFastError: If there are no labels, the lengths differ, or a label has no direction.
        TypeError: If a label is not a string.
    """
    check_pairs(gold, predicted)
    found = {label: directed_relation(label, other_label) for label in {*gold, *predicted} - {""}}
    if "" in gold:
        directed_relation("", other_label)
    relations = sorted({relation for label in set(gold) if (relation := found[label]) is not None})
    column = {relation: index for index, relation in enumerate(relations)}
    # The last column takes what is not counted: the other label, skipped items, other relations.
    of_label = {label: column.get(r, -1) if r is not None else -1 for label, r in found.items()}
    of_label[""] = -1
    parts = np.zeros((len(gold), len(relations) + 1, 3))
    rows = np.arange(len(gold))
    right = np.array([of_label[label] for label in gold])
    hit = [g == p for g, p in zip(gold, predicted, strict=True)]
    parts[rows, right, 0] = hit
    parts[rows, [of_label[label] for label in predicted], 1] = 1
    parts[rows, right, 2] = 1
    return parts[:, :-1].reshape(len(gold), -1)


def micro_f1_parts(
    gold: Sequence[str], predicted: Sequence[str], negative_label: str
) -> NDArray[np.float64]:
    """Count the hits, guesses and right labels of each item that are relations, as TACRED does.

    Args:
        gold: Right labels.
        predicted: Predicted labels in the same order.
        negative_label: The label that means that there is no relation.

    Returns:
        `[N, 3]`, float64.

    Raises:
        MetroFastError: If there are no labels or the lengths differ.
        TypeError: If a label is not a string.
    """
    check_pairs(gold, predicted)
    rows = [
        (g == p != negative_label, p != negative_label, g != negative_label)
        for g, p in zip(gold, predicted, strict=True)
    ]
    return np.array(rows, dtype=np.float64)


def f1_of_counts(hits: ArrayLike, guesses: ArrayLike, actual: ArrayLike) -> NDArray[np.float64]:
    """F1 = 2 hits / (guesses + actual), and 0 where there are neither guesses nor right labels."""
    total = np.add(guesses, actual, dtype=np.float64)
    doubled = np.multiply(2.0, hits, dtype=np.float64)
    return np.divide(doubled, total, out=np.zeros_like(total), where=total > 0)


def macro_f1_of_counts(sums: ArrayLike) -> NDArray[np.float64]:
    """Mean F1 over the labels that occur among the right ones.

    Args:
        sums: `[..., 3 R]`: hits, guesses and right labels of each label.

    Returns:
        `[...]`, 0 where there are no right labels.
    """
    counts = np.asarray(sums, dtype=np.float64)
    counts = counts.reshape(*counts.shape[:-1], counts.shape[-1] // 3, 3)
    occurs = counts[..., 2] > 0
    scores = f1_of_counts(counts[..., 0], counts[..., 1], counts[..., 2])
    number = occurs.sum(-1)
    return np.asarray((scores * occurs).sum(-1) / np.maximum(number, 1))
