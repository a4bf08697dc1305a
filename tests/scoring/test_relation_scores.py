"""Relation extraction scores against the official scorers' own vectors."""

import json
from pathlib import Path

import pytest

from metro_fast.errors import MetroFastError
from metro_fast.scoring import semeval_macro_f1, tacred_micro_f1
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
