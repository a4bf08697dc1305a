"""The official scores of two relation extraction benchmarks, which are not accuracies."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from metro_fast.errors import MetroFastError

__all__ = ["MicroF1", "semeval_macro_f1", "tacred_micro_f1"]

_DIRECTED = re.compile(r"^(?P<relation>.+)\((?P<direction>e1,e2|e2,e1)\)$")


class MicroF1(NamedTuple):
    """Precision, recall and F1, each from 0 to 1, and the counts that they come from."""

    precision: float
    recall: float
    f1: float
    gold: int
    guessed: int
    correct: int


def tacred_micro_f1(
    gold: Sequence[str], predicted: Sequence[str], *, negative_label: str = "no_relation"
) -> MicroF1:
    """Compute TACRED's micro F1 over the relations without `no_relation`.

    Source: yuhaozhang/tacred-relation utils/scorer.py:20-96. Precision is 1 when nothing is
    guessed (scikit-learn says 0); recall and F1 are then 0.

    Args:
        gold: Right labels.
        predicted: Predicted labels, in the same order.
        negative_label: The label that means that there is no relation.

    Returns:
        The scores and counts.

    Raises:
        MetroFastError: If there are no labels or the lengths differ.

    Example:
        >>> tacred_micro_f1(["a", "b", "no_relation"], ["a", "a", "a"]).f1
        0.4
    """
    _check_labels(gold, predicted)
    relations = sum(label != negative_label for label in gold)
    guessed = sum(label != negative_label for label in predicted)
    correct = sum(g == p != negative_label for g, p in zip(gold, predicted, strict=True))
    precision = correct / guessed if guessed else 1.0
    recall = correct / relations if relations else 0.0
    return MicroF1(precision, recall, _f1(precision, recall), relations, guessed, correct)


def semeval_macro_f1(
    gold: Sequence[str], predicted: Sequence[str], *, other_label: str = "Other"
) -> float:
    """Compute SemEval-2010 Task 8's official score: macro F1 over the relations without `Other`.

    Labels are `Relation(e1,e2)` or `Relation(e2,e1)`. The direction counts: a right relation in
    the wrong direction is not a hit, but it is a guess of that relation (scorer v1.2, "(9+1)-way
    evaluation taking directionality into account"). The mean is over the relations that occur in
    `gold` or `predicted`: nine in the benchmark.

    Args:
        gold: Right labels.
        predicted: Predicted labels, in the same order. Give `""` for a skipped item, which counts
            as a miss but not as a guess, as in the official scorer.
        other_label: The label outside the nine relations.

    Returns:
        A number from 0 to 1 (the official scorer prints it times 100).

    Raises:
        MetroFastError: If there are no labels, the lengths differ, or a label has no direction.

    Example:
        >>> semeval_macro_f1(["A(e1,e2)", "A(e2,e1)"], ["A(e1,e2)", "A(e1,e2)"])
        0.5
    """
    _check_labels(gold, predicted)
    gold_relations = [_relation(label, other_label) for label in gold]
    predicted_relations = [
        None if label == "" else _relation(label, other_label) for label in predicted
    ]
    scores: list[float] = []
    for relation in sorted({r for r in (*gold_relations, *predicted_relations) if r is not None}):
        hits = sum(
            g == p and r == relation
            for g, p, r in zip(gold, predicted, gold_relations, strict=True)
        )
        guessed = predicted_relations.count(relation)
        actual = gold_relations.count(relation)
        scores.append(_f1(hits / guessed if guessed else 0.0, hits / actual if actual else 0.0))
    return sum(scores) / len(scores) if scores else 0.0


def _check_labels(gold: Sequence[str], predicted: Sequence[str]) -> None:
    if len(gold) != len(predicted):
        raise MetroFastError(
            f"there are {len(gold)} gold labels for {len(predicted)} predicted ones; give one each "
            "per item"
        )
    if not gold:
        raise MetroFastError("there are no labels; give at least 1")
    for label in (*gold, *predicted):
        if not isinstance(label, str):
            raise TypeError(f"label {label!r} is not a string")


def _relation(label: str, other_label: str) -> str | None:
    """The relation without its direction, or None for the other label."""
    if label == other_label:
        return None
    match = _DIRECTED.match(label)
    if match is None:
        raise MetroFastError(
            f"label {label!r} has no direction; give Relation(e1,e2), Relation(e2,e1) "
            f"or {other_label!r}"
        )
    return match["relation"]


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
