"""Relation extraction scores against the official scorers' own vectors."""

import json
import random
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from metro_fast.errors import MetroFastError
from metro_fast.scoring import semeval_macro_f1, semeval_scores, tacred_micro_f1
from shared_files import shared_files


def test_tacred_golden(golden_folder: Path) -> None:
    golden = json.loads((golden_folder / "tacred_scorer.json").read_text())
    assert len(golden["cases"]) >= 5
    for case in golden["cases"]:
        if not case["gold"]:
            # Upstream gives precision 1 for no labels at all; that is a caller's mistake.
            with pytest.raises(MetroFastError, match="no labels"):
                tacred_micro_f1(case["gold"], case["pred"])
            continue
        score = tacred_micro_f1(case["gold"], case["pred"], negative_label=golden["negative_label"])
        expected = tuple(
            case[key]
            for key in ("precision", "recall", "f1", "gold_positive", "guessed", "correct")
        )
        assert tuple(score) == pytest.approx(expected, abs=1e-12), case["name"]


def read_labels(path: Path) -> dict[str, str]:
    return dict(line.split("\t") for line in path.read_text().splitlines() if line)


@pytest.mark.parametrize(
    ("folder", "vector", "official"),
    shared_files("re/semeval2010_task8/scorer_vectors", each_with=((1, 64.09), (2, 6.35))),
)
def test_semeval_official_scorer(folder: Path, vector: int, official: float) -> None:
    gold = read_labels(folder / f"answer_key{vector}.txt")
    proposed = read_labels(folder / f"proposed_answer{vector}.txt")
    assert f"F1 = {official:.2f}%" in (folder / f"result_scores{vector}.txt").read_text()
    predicted = [proposed.get(key, "") for key in gold]
    assert round(100 * semeval_macro_f1(list(gold.values()), predicted), 2) == official

    # The scorer prints the micro average of each of its three evaluations; the last is official.
    printed = re.findall(
        r"^P = +(\d+)/ *(\d+) = .*R = +\d+/ *(\d+) = .*F1 = +([\d.]+)%",
        (folder / f"result_scores{vector}.txt").read_text(),
        re.MULTILINE,
    )[2]
    micro = semeval_scores(list(gold.values()), predicted).micro
    assert (micro.correct, micro.guessed, micro.gold) == tuple(map(int, printed[:3]))
    assert round(100 * micro.f1, 2) == float(printed[3])


def scorer_v1_2(proposed: Mapping[int, str], answers: Mapping[int, str]) -> float:
    """The official score as the scorer's own text has it: two tables of counts, then a loop.

    Wrong directions go to a column of their own and are added to the guesses of the right
    relation; the loop runs over the labels of the answers, and the division is by their number,
    less one for `_Other`. (The scorer was run on 200 such subsets besides: equal to two decimals.)
    """
    table: dict[tuple[str, str], int] = defaultdict(int)
    proposed_count: dict[str, int] = defaultdict(int)
    answer_count: dict[str, int] = defaultdict(int)
    for number, label in proposed.items():
        bare, right = label.partition("(")[0], answers[number].partition("(")[0]
        column = "WRONG_DIR" if bare == right and label != answers[number] else bare
        table[column, right] += 1
        proposed_count[column] += 1
    for label in answers.values():
        answer_count[label.partition("(")[0]] += 1
    total = 0.0
    for label in sorted(answer_count.keys() - {"_Other"}):
        wrong = table["WRONG_DIR", label]
        guessed = proposed_count[label]
        precision = 0.0 if guessed == 0 else 100 * table[label, label] / (guessed + wrong)
        recall = 100 * table[label, label] / answer_count[label]
        if precision + recall:
            total += 2 * precision * recall / (precision + recall)
    distinct = len(answer_count) - ("_Other" in answer_count)
    return total / distinct


def random_subset(seed: int) -> tuple[list[str], list[str]]:
    """8 to 50 items over 19 labels; half of the answers are right, some are skipped."""
    draw = random.Random(seed)
    names = "Cause-Effect Component-Whole Content-Container Entity-Destination Entity-Origin "
    names += "Instrument-Agency Member-Collection Message-Topic Product-Producer"
    labels = [f"{n}({d})" for n in names.split() for d in ("e1,e2", "e2,e1")] + ["Other"]
    gold = [draw.choice(labels) for _ in range(draw.choice((8, 20, 30, 50)))]
    predicted = [
        g if draw.random() < 0.5 else draw.choice([*labels, "", g.replace("(e1,e2)", "(e2,e1)")])
        for g in gold
    ]
    return gold, predicted


def official(gold: Sequence[str], predicted: Sequence[str]) -> float:
    key = {i: "_Other" if g == "Other" else g for i, g in enumerate(gold)}
    given = {i: "_Other" if p == "Other" else p for i, p in enumerate(predicted) if p}
    return scorer_v1_2(given, key)


def test_semeval_on_random_subsets() -> None:
    by_union = 0
    for seed in range(200):
        gold, predicted = random_subset(seed)
        expected = official(gold, predicted)
        assert 100 * semeval_macro_f1(gold, predicted) == pytest.approx(expected, abs=1e-9), seed
        guessed = {label.partition("(")[0] for label in predicted} - {"", "Other"}
        by_union += not guessed <= {label.partition("(")[0] for label in gold}
    assert by_union >= 20  # subsets where dividing by the key and by key and guesses differ


def test_semeval_divides_by_the_relations_of_the_key() -> None:
    scores = semeval_scores(["A(e1,e2)", "B(e1,e2)"], ["A(e1,e2)", "C(e1,e2)"])
    assert scores.macro_f1 == 0.5
    # The guess of C is not in the scorer's loop: 1 of 1 guesses right, 1 of 2 items found.
    assert scores.micro == (1.0, 0.5, pytest.approx(2 / 3), 2, 1, 1)


def test_semeval_averages_over_all_labels_are_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    for seed in range(50):
        gold, predicted = random_subset(seed)
        scores, labels = semeval_scores(gold, predicted), sorted(set(gold))
        for average, ours in (("macro", scores.macro_all_f1), ("micro", scores.micro_all_f1)):
            theirs = metrics.f1_score(
                gold, predicted, labels=labels, average=average, zero_division=0
            )
            assert ours == pytest.approx(theirs, abs=1e-12), (seed, average)


def test_semeval_rates() -> None:
    gold = ["A(e1,e2)", "Other", "Other", "A(e2,e1)"]
    scores = semeval_scores(gold, ["Other", "Other", "", "A(e2,e1)"])
    assert (scores.na_rate, scores.na_recall, scores.invalid_rate) == (0.5, 0.5, 0.25)
    assert semeval_scores(["A(e1,e2)"], [""]).na_recall is None


def test_wrong_direction_costs_twice() -> None:
    # A guess of the relation with the wrong direction: precision 1/2, recall 1/2.
    assert semeval_macro_f1(["A(e1,e2)", "A(e2,e1)"], ["A(e1,e2)"] * 2) == 0.5
    assert semeval_macro_f1(["A(e1,e2)", "Other"], ["A(e1,e2)", "Other"]) == 1.0
    assert semeval_macro_f1(["Other"], ["Other"]) == 0.0


@pytest.mark.parametrize("scorer", [semeval_macro_f1, tacred_micro_f1])
def test_bad_input(scorer) -> None:
    with pytest.raises(MetroFastError, match="no labels"):
        scorer([], [])
    with pytest.raises(MetroFastError, match="1 gold labels for 2"):
        scorer(["Other"], ["Other", "Other"])
    with pytest.raises(TypeError, match="not a string"):
        scorer(["Other"], [3])


def test_labels_without_direction() -> None:
    with pytest.raises(MetroFastError, match="'Cause-Effect' has no direction"):
        semeval_macro_f1(["Cause-Effect"], ["Other"])
    with pytest.raises(MetroFastError, match="'A' has no direction"):
        semeval_macro_f1(["Other"], ["A"])
