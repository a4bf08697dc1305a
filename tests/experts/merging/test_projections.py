"""The measured projections of merges: docs/merging.md quotes them, and they are what it says."""

import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def result() -> dict:
    return json.loads((ROOT / "benches/results/merge_projections.json").read_text("utf-8"))


def test_the_page_has_the_measured_tables(result: dict):
    pytest.importorskip("peft")
    bench = importlib.import_module("merge_projections")
    page = (ROOT / "docs/merging.md").read_text("utf-8")
    assert page.count("<!-- table:") == 3
    assert bench.embed(page, result) == page, "stale: run python benches/merge_projections.py"
    text = (ROOT / "benches/results/merge_projections.md").read_text("utf-8")
    assert bench.markdown(result) == text


def test_updates_are_the_mean_and_factors_are_pefts_linear(result: dict):
    for kind in result["kinds"].values():
        assert list(kind) == ["2", "3", "10"]
        for count, rows in kind.items():
            assert rows["ours: updates (the default)"] == pytest.approx([1, 1], abs=1e-5)
            assert rows["ours: factors"] == pytest.approx(rows["PEFT: linear"], rel=1e-4)
            assert rows["ours: ties of factors"] == pytest.approx(rows["PEFT: ties"], rel=1e-4)
            ours, theirs = rows["ours: updates, rank of one"], rows["PEFT: svd"]
            assert ours == pytest.approx(theirs, rel=1e-4)
            before = rows["before: each factor divided by the number"][0]
            assert before == pytest.approx(rows["PEFT: linear"][0] / int(count), rel=1e-4)
