"""The official scores of two relation extraction benchmarks, which are not accuracies."""

from collections.abc import Sequence
from typing import NamedTuple

from metro_fast.scoring.metrics.relations import (
    f1_of_counts,
    macro_f1_of_counts,
    micro_f1_parts,
    relation_parts,
)

__all__ = ["MicroF1", "SemEvalScores", "semeval_macro_f1", "semeval_scores", "tacred_micro_f1"]


class MicroF1(NamedTuple):
    """Precision, recall and F1, each from 0 to 1, and the counts that they come from."""

    precision: float
    recall: float
    f1: float
    gold: int
    guessed: int
    correct: int


class SemEvalScores(NamedTuple):
    """The official score of SemEval-2010 Task 8 and what is printed beside it, all from 0 to 1.

    Attributes:
        macro_f1: The official score, as `semeval_macro_f1` computes it.
        micro: The official scorer's micro average over the relations of the key without `Other`.
        micro_all_f1: Micro F1 over the directed labels of the key with `Other`; skipped items and
            labels outside the key are misses but not guesses.
        macro_all_f1: Mean F1 over the directed labels of the key with `Other`.
        na_rate: Share of items that are predicted as `Other`.
        na_recall: Share of the `Other` items of the key that are predicted as such; None if the
            key has no such item.
        invalid_rate: Share of items without a prediction, that is, with `""`.
    """

    macro_f1: float
    micro: MicroF1
    micro_all_f1: float
    macro_all_f1: float
    na_rate: float
    na_recall: float | None
    invalid_rate: float


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
    sums = micro_f1_parts(gold, predicted, negative_label).sum(0).tolist()
    correct, guessed, relations = map(int, sums)
    return MicroF1(
        correct / guessed if guessed else 1.0,
        correct / relations if relations else 0.0,
        _f1_of(correct, guessed, relations),
        relations,
        guessed,
        correct,
    )


def semeval_macro_f1(
    gold: Sequence[str], predicted: Sequence[str], *, other_label: str = "Other"
) -> float:
    """Compute SemEval-2010 Task 8's official score: macro F1 over the relations without `Other`.

    Labels are `Relation(e1,e2)` or `Relation(e2,e1)`. The direction counts: a right relation in
    the wrong direction is not a hit, but it is a guess of that relation (scorer v1.2, "(9+1)-way
    evaluation taking directionality into account"). The mean is over the relations that occur in
    `gold`, whatever is predicted: nine in the benchmark, fewer in a part of it.

    Args:
        gold: Right labels.
        predicted: Predicted labels, in the same order. Give `""` for a skipped item, which counts
            as a miss but not as a guess, as in the official scorer.
        other_label: The label outside the nine relations.

    Returns:
        A number from 0 to 1 (the official scorer prints it times 100); 0 if every right label is
        `Other`, where the official scorer divides by 0.

    Raises:
        MetroFastError: If there are no labels, the lengths differ, or a label has no direction.
        TypeError: If a label is not a string.

    Example:
        >>> semeval_macro_f1(["A(e1,e2)", "B(e1,e2)"], ["A(e1,e2)", "C(e1,e2)"])
        0.5
    """
    return semeval_scores(gold, predicted, other_label=other_label).macro_f1


def semeval_scores(
    gold: Sequence[str], predicted: Sequence[str], *, other_label: str = "Other"
) -> SemEvalScores:
    """Compute SemEval-2010 Task 8's official score with the averages and rates that explain it.

    Source: semeval2010_task8_scorer-v1.2.pl, its third evaluation. `micro_all_f1` and
    `macro_all_f1` are scikit-learn's `f1_score` with the labels of the key.

    Args:
        gold: Right labels, `Relation(e1,e2)`, `Relation(e2,e1)` or `other_label`.
        predicted: Predicted labels, in the same order; `""` for a skipped or unreadable answer.
        other_label: The label outside the nine relations.

    Returns:
        The scores.

    Raises:
        MetroFastError: If there are no labels, the lengths differ, or a label has no direction.
        TypeError: If a label is not a string.

    Example:
        >>> semeval_scores(["A(e1,e2)", "Other"], ["A(e2,e1)", "Other"]).na_rate
        0.5
    """
    sums = relation_parts(gold, predicted, other_label).sum(0)
    correct, guessed, actual = (int(sums[column::3].sum()) for column in range(3))
    exact = [g for g, p in zip(gold, predicted, strict=True) if g == p]
    right, given = list(gold), list(predicted)
    directed = [(exact.count(n), given.count(n), right.count(n)) for n in sorted(set(gold))]
    others = right.count(other_label)
    return SemEvalScores(
        macro_f1=float(macro_f1_of_counts(sums)),
        micro=MicroF1(
            correct / guessed if guessed else 0.0,
            correct / actual if actual else 0.0,
            _f1_of(correct, guessed, actual),
            actual,
            guessed,
            correct,
        ),
        micro_all_f1=_f1_of(len(exact), sum(row[1] for row in directed), len(gold)),
        macro_all_f1=float(macro_f1_of_counts([count for row in directed for count in row])),
        na_rate=given.count(other_label) / len(gold),
        na_recall=exact.count(other_label) / others if others else None,
        invalid_rate=given.count("") / len(gold),
    )


def _f1_of(hits: int, guessed: int, actual: int) -> float:
    return float(f1_of_counts(hits, guessed, actual))
