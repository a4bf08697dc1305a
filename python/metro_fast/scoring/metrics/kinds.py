"""The metrics that a task may have, and where each one comes from."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.scoring.metrics.metric import Answer, Metric
from metro_fast.scoring.metrics.relations import (
    check_strings,
    directed_relation,
    f1_of_counts,
    macro_f1_of_counts,
    micro_f1_parts,
    relation_parts,
)
from metro_fast.scoring.metrics.texts import squad_normalized, token_f1_score

__all__ = ["METRICS", "find_metric"]


@dataclass(frozen=True, repr=False)
class _Mean(Metric):
    """The mean of the items' scores. Columns: the score, and 1."""

    scores: Callable[[Sequence[Answer]], Sequence[float]]
    words: bool = False  # whether an answer without words, such as "(A)", cannot be compared

    def parts(self, answers: Sequence[Answer]) -> NDArray[np.float64]:
        if not answers:
            raise MetroFastError(f"there are no answers; {self.name} needs at least 1")
        check_strings(text for answer in answers for text in answer[:2])
        scores = np.array(self.scores(answers), dtype=np.float64)
        return np.stack([scores, np.ones(len(scores))], axis=1)

    def value(self, sums: ArrayLike) -> NDArray[np.float64]:
        totals = np.asarray(sums, dtype=np.float64)
        return np.asarray(totals[..., 0] / totals[..., 1])

    def gradient(self, sums: ArrayLike) -> NDArray[np.float64]:
        total, count = np.asarray(sums, dtype=np.float64)
        return np.array([1 / count, -total / count**2])

    def item_values(self, parts: ArrayLike) -> NDArray[np.float64]:
        super().item_values(parts)  # for its check
        return np.asarray(parts, dtype=np.float64)[:, 0].copy()

    def check(self, gold: Sequence[str]) -> None:
        super().check(gold)
        for label in gold if self.words else ():
            if label and not squad_normalized(label):
                raise MetroFastError(
                    f"the right answer {quoted(label)} is empty without punctuation and articles, "
                    f"so that {self.name} would take an empty answer for it; use exact_match or "
                    "accuracy"
                )


@dataclass(frozen=True, repr=False)
class _MicroF1(Metric):
    """TACRED's score. Columns: hits, guesses and right labels that are relations."""

    negative_label: str

    def parts(self, answers: Sequence[Answer]) -> NDArray[np.float64]:
        return micro_f1_parts(*_labels(answers), self.negative_label)

    def value(self, sums: ArrayLike) -> NDArray[np.float64]:
        counts = np.asarray(sums, dtype=np.float64)
        return f1_of_counts(counts[..., 0], counts[..., 1], counts[..., 2])

    def gradient(self, sums: ArrayLike) -> NDArray[np.float64]:
        return _f1_gradient(np.asarray(sums, dtype=np.float64).reshape(1, 3)).reshape(-1)

    def check(self, gold: Sequence[str]) -> None:
        super().check(gold)
        for label in dict.fromkeys(gold):
            if not label:
                raise MetroFastError(f"a right answer is empty; give {quoted(self.negative_label)}")
            if label != self.negative_label and _letters(label) == _letters(self.negative_label):
                raise MetroFastError(
                    f"{self.name} would take the right answer {quoted(label)} for a relation; "
                    f"write it {quoted(self.negative_label)}"
                )


@dataclass(frozen=True, repr=False)
class _MacroF1(Metric):
    """SemEval's score. Columns: hits, guesses and right labels of each relation, by name."""

    other_label: str

    def parts(self, answers: Sequence[Answer]) -> NDArray[np.float64]:
        return relation_parts(*_labels(answers), self.other_label)

    def value(self, sums: ArrayLike) -> NDArray[np.float64]:
        return macro_f1_of_counts(sums)

    def gradient(self, sums: ArrayLike) -> NDArray[np.float64]:
        counts = np.asarray(sums, dtype=np.float64).reshape(-1, 3)
        occurs = counts[:, 2] > 0
        weights: NDArray[np.float64] = occurs / max(int(occurs.sum()), 1)
        slopes: NDArray[np.float64] = _f1_gradient(counts) * weights[:, None]
        return slopes.reshape(-1)

    def check(self, gold: Sequence[str]) -> None:
        super().check(gold)
        for label in dict.fromkeys(gold):
            directed_relation(label, self.other_label)


def _labels(answers: Sequence[Answer]) -> tuple[list[str], list[str]]:
    return [answer.gold for answer in answers], [answer.given for answer in answers]


def _letters(label: str) -> str:
    return re.sub(r"[\W_]", "", label).lower()


def _f1_gradient(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """`[R, 3]`: F = 2h / (g + k) by h, g and k, which is 2, -F and -F over g + k."""
    hits, guesses, actual = counts.T
    score = f1_of_counts(hits, guesses, actual)
    total = guesses + actual
    slopes = np.stack([np.full_like(score, 2.0), -score, -score], axis=1)
    # The score of a label that is neither right nor guessed stays 0.
    scaled: NDArray[np.float64] = slopes / np.where(total > 0, total, np.inf)[:, None]
    return scaled


def _right(answers: Sequence[Answer]) -> Sequence[float]:
    return [float(answer.right) for answer in answers]


def _exact(answers: Sequence[Answer]) -> Sequence[float]:
    # A causal model's answer begins with the space before its first word.
    return [float(answer.gold.strip() == answer.given.strip()) for answer in answers]


def _normalized_pairs(answers: Sequence[Answer]) -> list[tuple[str, str]]:
    gold, given = _labels(answers)
    known = {text: squad_normalized(text) for text in {*gold, *given}}
    return [(known[g], known[p]) for g, p in zip(gold, given, strict=True)]


def _normalized(answers: Sequence[Answer]) -> Sequence[float]:
    return [float(gold == given) for gold, given in _normalized_pairs(answers)]


def _token_f1(answers: Sequence[Answer]) -> Sequence[float]:
    return [token_f1_score(gold, given) for gold, given in _normalized_pairs(answers)]


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            _Mean("accuracy", "accuracy", True, _right),
            _MacroF1("semeval_macro_f1", "macro F1", False, "Other"),
            _MicroF1("tacred_micro_f1", "micro F1", False, "no_relation"),
            _Mean("exact_match", "exact match", True, _exact),
            _Mean("normalized_match", "normalized match", True, _normalized, words=True),
            _Mean("token_f1", "token F1", False, _token_f1, words=True),
        )
    }
)
"""The metrics by name; a task names its own in `Task.metric`."""


def find_metric(name: str) -> Metric:
    """Look up a metric.

    Args:
        name: A key of `METRICS`.

    Returns:
        The metric.

    Raises:
        MetroFastError: If there is no such metric.

    Example:
        >>> find_metric("semeval_macro_f1").label
        'macro F1'
    """
    if name not in METRICS:
        raise MetroFastError(f"the metric is {quoted(name)}; give one of {', '.join(METRICS)}")
    return METRICS[name]
