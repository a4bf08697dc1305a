"""Relation extraction scores against the official scorers' own vectors."""

import json
import re
from pathlib import Path

import pytest

from metro_fast.errors import MetroFastError
from metro_fast.scoring import semeval_macro_f1, semeval_scores, tacred_micro_f1
from semeval_scorer import official, random_subset
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
    ("folder", "vector", "score"),
    shared_files("re/semeval2010_task8/scorer_vectors", each_with=((1, 64.09), (2, 6.35))),
)
def test_semeval_official_scorer(folder: Path, vector: int, score: float) -> None:
    gold = read_labels(folder / f"answer_key{vector}.txt")
    proposed = read_labels(folder / f"proposed_answer{vector}.txt")
    assert f"F1 = {score:.2f}%" in (folder / f"result_scores{vector}.txt").read_text()
    predicted = [proposed.get(key, "") for key in gold]
    assert round(100 * semeval_macro_f1(list(gold.values()), predicted), 2) == score

    # The scorer prints the micro average of each of its three evaluations; the last is official.
    printed = re.findall(
        r"^P = +(\d+)/ *(\d+) = .*R = +\d+/ *(\d+) = .*F1 = +([\d.]+)%",
        (folder / f"result_scores{vector}.txt").read_text(),
        re.MULTILINE,
    )[2]
    micro = semeval_scores(list(gold.values()), predicted).micro
    assert (micro.correct, micro.guessed, micro.gold) == tuple(map(int, printed[:3]))
    assert round(100 * micro.f1, 2) == float(printed[3])


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
