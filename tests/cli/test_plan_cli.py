"""`metro-fast plan`: the plans of a folder are those of the functions."""

import re

import numpy as np
import pytest
from typer.testing import CliRunner

from matrix_cases import matrix_report
from metro_fast.cli.plan import app
from metro_fast.errors import MetroFastError
from metro_fast.robustness import plan_budget, plan_precision, variance_components


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    right = np.random.default_rng(0).random((6, 80)) < np.linspace(0.5, 0.7, 6)[:, None]
    seen = [True] * 3 + [False] * 3
    matrix_report(right, seen=seen).save(folder)
    return folder, right, seen


def run(*arguments):
    result = CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "120"})
    if isinstance(result.exception, MetroFastError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return re.sub(r"\s+", " ", result.output)


class TestPlan:
    def test_a_precision(self, evaluation):
        folder, right, _ = evaluation
        plan = plan_precision(variance_components(right), 0.05, wordings=6, items=80)
        shown = run(folder, "--half-width", 5)
        assert f"{plan.wordings} (+{plan.more_wordings})" in shown
        assert f"{plan.items:,} (+{plan.more_items:,})" in shown

    def test_a_budget_for_the_gap(self, evaluation):
        folder, right, seen = evaluation
        plan = plan_budget(variance_components(right, seen=seen), 5000, wordings=3, items=80)
        shown = run(folder, "--budget", 5000, "--of", "gap")
        assert f"{plan.answers:,}" in shown
        assert f"± {100 * plan.half_width:.1f} points" in shown
        assert "of each side" in shown

    def test_bad_arguments(self, evaluation, tmp_path):
        folder, right, _ = evaluation
        for arguments, message in (
            ([], "give one of --half-width and --budget"),
            (["--half-width", 2, "--budget", 9], "give one of"),
            (["--half-width", 0], "--half-width is 0 points"),
            (["--half-width", 5, "--max-items", 80, "--max-wordings", 6], "more than there can be"),
            (["--budget", 3], "do not allow 2 wordings"),
        ):
            with pytest.raises(MetroFastError, match=message):
                run(folder, *arguments)
        matrix_report(right, seen=[True] * 6).save(tmp_path)
        with pytest.raises(MetroFastError, match="at least 2 seen and 2 unseen ones"):
            run(tmp_path, "--budget", 5000, "--of", "gap")
