"""Every metric against its official scorer's rule, and what intervals and tests need of it."""

import random
import re
import string
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metro_fast.errors import MetroFastError
from metro_fast.scoring import (
    METRICS,
    Answer,
    Metric,
    find_metric,
    semeval_macro_f1,
    tacred_micro_f1,
)
from semeval_scorer import official, random_subset
from shared_files import shared_files

F1 = ("semeval_macro_f1", "tacred_micro_f1")
MEANS = ("accuracy", "exact_match", "normalized_match", "token_f1")


def answers_of(gold: Sequence[str], predicted: Sequence[str]) -> list[Answer]:
    return [Answer(g, p, g == p) for g, p in zip(gold, predicted, strict=True)]


def random_answers(metric: str, seed: int) -> list[Answer]:
    """Answers that the metric can read, some of which are unreadable, wrong or half right."""
    if metric == "semeval_macro_f1":
        return answers_of(*random_subset(seed))
    draw = random.Random(seed)
    count = draw.choice((5, 40))
    if metric == "tacred_micro_f1":
        labels = ["no_relation", "per:title", "org:founded", "per:age"]
        gold = draw.choices(labels, (6, 2, 1, 1), k=count)
        return answers_of(gold, [draw.choice([g, g, *labels, ""]) for g in gold])
    words = ["cat", "sat", "mat", "Rome,", "the", "in", "red"]
    texts = [" ".join(draw.choices(words, k=draw.randint(1, 5))) + " x" for _ in range(count)]
    return answers_of(texts, [draw.choice([t, draw.choice(texts), ""]) for t in texts])


def tacred_scorer(gold: Sequence[str], predicted: Sequence[str]) -> float:
    """TACRED's scorer with its three tables of counts (utils/scorer.py:20-96)."""
    correct, guessed, in_gold = Counter(), Counter(), Counter()
    for g, p in zip(gold, predicted, strict=True):
        if g == "no_relation" and p == "no_relation":
            continue
        if p != "no_relation":
            guessed[p] += 1
        if g != "no_relation":
            in_gold[g] += 1
        if g == p:
            correct[g] += 1
    precision = correct.total() / guessed.total() if guessed else 1.0
    recall = correct.total() / in_gold.total() if in_gold else 0.0
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def squad_scorer(gold: str, predicted: str) -> tuple[float, float]:
    """Exact match and F1 with evaluate-v1.1.py's steps; the rule for empty texts is v2.0's."""

    def normalize(text: str) -> str:
        kept = "".join(c for c in text.lower() if c not in set(string.punctuation))
        return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())

    right, given = normalize(gold).split(), normalize(predicted).split()
    same = sum((Counter(right) & Counter(given)).values())
    exact = float(normalize(gold) == normalize(predicted))
    if not right or not given:
        return exact, float(right == given)
    if same == 0:
        return exact, 0.0
    precision, recall = same / len(given), same / len(right)
    return exact, 2 * precision * recall / (precision + recall)


def read_labels(path: Path) -> dict[str, str]:
    return dict(line.split("\t") for line in path.read_text().splitlines() if line)


class TestOfficialScores:
    @pytest.mark.parametrize(
        ("folder", "vector", "score"),
        shared_files("re/semeval2010_task8/scorer_vectors", each_with=((1, 64.09), (2, 6.35))),
    )
    def test_semeval_vectors(self, folder: Path, vector: int, score: float) -> None:
        key = read_labels(folder / f"answer_key{vector}.txt")
        proposed = read_labels(folder / f"proposed_answer{vector}.txt")
        answers = answers_of(list(key.values()), [proposed.get(number, "") for number in key])
        assert round(100 * METRICS["semeval_macro_f1"].of(answers), 2) == score

    def test_semeval_on_200_subsets(self) -> None:
        skipped = 0
        for seed in range(200):
            gold, predicted = random_subset(seed)
            skipped += predicted.count("")
            got = METRICS["semeval_macro_f1"].of(answers_of(gold, predicted))
            assert got == semeval_macro_f1(gold, predicted)
            assert 100 * got == pytest.approx(official(gold, predicted), abs=1e-9), seed
        assert skipped > 50

    def test_tacred_on_200_subsets(self) -> None:
        for seed in range(200):
            answers = random_answers("tacred_micro_f1", seed)
            gold, predicted = [a.gold for a in answers], [a.given for a in answers]
            got = METRICS["tacred_micro_f1"].of(answers)
            assert got == tacred_micro_f1(gold, predicted).f1
            assert got == pytest.approx(tacred_scorer(gold, predicted), abs=1e-12), seed

    def test_scikit_learn(self) -> None:
        metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
        compared = 0
        for seed in range(100):
            answers = random_answers("tacred_micro_f1", seed)
            gold, predicted = [a.gold for a in answers], [a.given for a in answers]
            labels = sorted({*gold, *predicted} - {"no_relation"})
            got = METRICS["tacred_micro_f1"].of(answers)
            expected = metrics.f1_score(gold, predicted, labels=labels, average="micro")
            assert got == pytest.approx(expected, abs=1e-12)

            # With one direction, a relation is a label.
            gold, predicted = random_subset(seed)
            gold, predicted = (
                [label.replace("e2,e1", "e1,e2") for label in side] for side in (gold, predicted)
            )
            got = METRICS["semeval_macro_f1"].of(answers_of(gold, predicted))
            labels = sorted({*gold} - {"Other"})
            expected = metrics.f1_score(
                gold, predicted, labels=labels, average="macro", zero_division=0
            )
            assert got == pytest.approx(expected, abs=1e-12)
            compared += got < 1
        assert compared > 50

    @given(gold=st.text("aAnthe .,'é-1", max_size=12), text=st.text("aAnthe .,'é-1", max_size=12))
    def test_squad(self, gold: str, text: str) -> None:
        exact, f1 = squad_scorer(gold, text)
        answers = [Answer(gold, text, False)]
        assert METRICS["normalized_match"].of(answers) == exact
        assert METRICS["token_f1"].of(answers) == pytest.approx(f1, abs=1e-12)

    def test_worked_examples(self) -> None:
        assert METRICS["token_f1"].of([Answer("the cat sat", "A cat, sat down!", False)]) == 0.8
        assert METRICS["token_f1"].of([Answer("a b b", "b", False)]) == pytest.approx(2 / 3)
        assert METRICS["token_f1"].of([Answer("", "", True), Answer("", "no", False)]) == 0.5
        assert METRICS["normalized_match"].of([Answer("Rome", " The Rome. ", False)]) == 1.0
        # Without a normalization, as lm-eval's exact_match, but for the space of a first word.
        exact = [Answer("Rome", given, False) for given in (" Rome\n", "rome", "Rome.", "")]
        assert METRICS["exact_match"].parts(exact)[:, 0].tolist() == [1, 0, 0, 0]
        # The reading decides about accuracy, not the texts.
        assert METRICS["accuracy"].of([Answer("A", "B", True), Answer("A", "A", False)]) == 0.5


class TestSums:
    @pytest.mark.parametrize("name", METRICS)
    def test_the_mean_of_the_items_is_the_metric(self, name: str) -> None:
        metric = METRICS[name]
        for seed in range(30):
            answers = random_answers(name, seed)
            parts = metric.parts(answers)
            assert metric.item_values(parts).mean() == pytest.approx(metric.of(answers), abs=1e-12)

    @pytest.mark.parametrize("name", METRICS)
    def test_resampled_sums_are_the_metric_of_the_resampled_answers(self, name: str) -> None:
        metric, draw = METRICS[name], np.random.default_rng(0)
        missing = 0
        for seed in range(10):
            answers = random_answers(name, seed)
            drawn = draw.integers(len(answers), size=(3, 4, len(answers)))
            weights = (drawn[..., None, :] == np.arange(len(answers))[:, None]).sum(-1)
            got = metric.value(weights @ metric.parts(answers))
            assert got.shape == (3, 4)
            for place in np.ndindex(3, 4):
                again = [answers[i] for i in drawn[place]]
                assert got[place] == pytest.approx(metric.of(again), abs=1e-12)
                missing += metric.parts(again).shape[1] < metric.parts(answers).shape[1]
        # A relation that a resample lacks leaves the mean, as it does in the scorer.
        assert (missing > 0) == (name == "semeval_macro_f1")

    @pytest.mark.parametrize("name", METRICS)
    def test_influence_is_the_derivative_by_an_items_weight(self, name: str) -> None:
        metric = METRICS[name]
        parts = metric.parts(random_answers(name, 3))
        count, step = len(parts), 1e-6
        expected = []
        for i in range(count):
            # The items' shares of a distribution, of which item i gets a little more.
            more, less = np.full((2, count), 1 / count)
            more, less = more * (1 - step), less * (1 + step)
            more[i], less[i] = more[i] + step, less[i] - step
            slope = (metric.value(more @ parts) - metric.value(less @ parts)) / (2 * step)
            expected.append(metric.value(parts.sum(0)) + slope)
        assert metric.item_values(parts) == pytest.approx(expected, abs=1e-6)

    def test_two_models_have_the_same_columns(self) -> None:
        gold, predicted = random_subset(4)
        metric = METRICS["semeval_macro_f1"]
        shapes = {metric.parts(answers_of(gold, p)).shape for p in (predicted, [""] * len(gold))}
        assert shapes == {(len(gold), 3 * len({g.partition("(")[0] for g in gold} - {"Other"}))}

    def test_item_values_of_a_mean_are_its_scores(self) -> None:
        for name in MEANS:
            parts = METRICS[name].parts(random_answers(name, 1))
            assert METRICS[name].item_values(parts).tolist() == parts[:, 0].tolist()
            if METRICS[name].binary:
                assert set(parts[:, 0]) <= {0.0, 1.0}

    def test_keys_without_relations(self) -> None:
        for name, label in zip(F1, ("Other", "no_relation"), strict=True):
            answers = answers_of([label] * 3, [label, "", label])
            assert METRICS[name].of(answers) == 0
            assert METRICS[name].item_values(METRICS[name].parts(answers)).tolist() == [0, 0, 0]

    def test_400_cells_take_less_than_a_second(self) -> None:
        for name in METRICS:
            answers = (random_answers(name, 1) * 50)[:250]
            start = time.process_time()
            for _ in range(400):
                METRICS[name].parts(answers)
            assert time.process_time() - start < 1, name


class TestRefusals:
    @pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
    def test_no_answers_and_no_texts(self, metric: Metric) -> None:
        with pytest.raises(MetroFastError, match="at least 1"):
            metric.parts([])
        with pytest.raises(MetroFastError, match="at least 1"):
            metric.check([])
        with pytest.raises(TypeError, match="label 3 is not a string"):
            metric.parts([Answer("x", 3, True)])  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="label None is not a string"):
            metric.check([None])  # type: ignore[list-item]
        with pytest.raises(MetroFastError, match=r"parts has shape \(0, 3\)"):
            metric.item_values(np.zeros((0, 3)))

    @pytest.mark.parametrize("label", ["Cause-Effect", "A(e1,e2)\n", "other", ""])
    def test_semeval_labels_without_direction(self, label: str) -> None:
        with pytest.raises(MetroFastError, match="has no direction"):
            METRICS["semeval_macro_f1"].check(["Other", "A(e1,e2)", label])
        with pytest.raises(MetroFastError, match="has no direction"):
            METRICS["semeval_macro_f1"].parts([Answer(label, "", False)])

    @pytest.mark.parametrize("label", ["no relation", "No_Relation", "NO-RELATION"])
    def test_tacred_labels_that_would_be_relations(self, label: str) -> None:
        with pytest.raises(MetroFastError, match="write it 'no_relation'"):
            METRICS["tacred_micro_f1"].check(["no_relation", label])

    def test_tacred_empty_label(self) -> None:
        with pytest.raises(MetroFastError, match="a right answer is empty"):
            METRICS["tacred_micro_f1"].check(["per:title", ""])

    @pytest.mark.parametrize("name", ["normalized_match", "token_f1"])
    @pytest.mark.parametrize("label", ["A", "(A)", "the", "?!"])
    def test_answers_of_which_nothing_is_left(self, name: str, label: str) -> None:
        with pytest.raises(MetroFastError, match="use exact_match or accuracy"):
            METRICS[name].check(["Rome", label])

    def test_good_labels(self) -> None:
        METRICS["semeval_macro_f1"].check(["Other", "A-B(e2,e1)"])
        METRICS["tacred_micro_f1"].check(["no_relation", "per:title"])
        METRICS["token_f1"].check(["", "Rome", "(B)"])
        METRICS["exact_match"].check(["(A)", ""])
        METRICS["accuracy"].check(["A", ""])

    def test_find_metric(self) -> None:
        assert [find_metric(name) for name in METRICS] == list(METRICS.values())
        assert repr(find_metric("token_f1")) == "<Metric token_f1>"
        with pytest.raises(MetroFastError, match="the metric is 'f1'; give one of accuracy, sem"):
            find_metric("f1")
