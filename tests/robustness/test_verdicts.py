"""Verdicts of a comparison: which are given, which wordings are named, and which need evidence."""

import numpy as np
import pytest

from matrix_cases import matrix_cells, matrix_report
from metro_fast.errors import MetroFastError
from metro_fast.robustness import Report, compare
from metro_fast.robustness.statistics import Interval, holm, mcnemar_exact
from metro_fast.robustness.verdicts import (
    Verdicts,
    fewest_items,
    judge_interval,
    needed_items,
)


def compared(first, second, *, margin=0.01, **keywords):
    reports = [
        matrix_report(x, model=name, **keywords)
        for x, name in ((first, "base"), (second, "compressed"))
    ]
    return compare(*reports, margin=margin)


def flipped(right, draw, share):
    """The same answers with a share of the items flipped, equally often up and down."""
    other = right.copy()
    for row in other:
        for value in (True, False):
            index = np.flatnonzero(row == value)
            row[draw.choice(index, round(share / 2 * row.size), replace=False)] = not value
    return other


class TestNumbers:
    @pytest.mark.parametrize("margin", [0.002, 0.01, 0.05, 0.2])
    def test_fewest_items_is_the_first_number_with_a_chance_below_2_5_percent(self, margin):
        count = next(n for n in range(1, 10_000) if (1 - margin) ** n <= 0.025)
        assert fewest_items(margin) == count

    def test_needed_items(self):
        # 2 % of discordant items: s² = .02, so (1.960 + 1.282)² * .02 / .01² = 2,102.
        error = np.sqrt(0.02 / 500)
        assert needed_items(error, 500, 0.01, independent=500) == 2102
        # In groups of five with five times the variance, five times as many.
        assert needed_items(error * np.sqrt(5), 500, 0.01, independent=100) in (10507, 10508)
        assert needed_items(0.0, 500, 0.01, independent=500) == 368
        assert needed_items(0.0, 500, 0.01, independent=100) == 5 * 368

    def test_bad_margins(self):
        for margin in (0.0, 1.0, -0.1, float("nan")):
            with pytest.raises(MetroFastError, match="expected a share between 0 and 1"):
                fewest_items(margin)

    @pytest.mark.parametrize(
        ("ends", "enough", "verdict"),
        [
            ((-0.01, 0.01), True, "as robust"),
            ((-0.01, 0.01), False, "undecided"),
            ((0.002, 0.009), True, "as robust"),
            ((0.002, 0.009), False, "better"),
            ((-0.03, -0.001), True, "worse"),
            ((-0.02, 0.001), True, "undecided"),
        ],
    )
    def test_one_interval(self, ends, enough, verdict):
        assert judge_interval(Interval(*ends), 0.01, enough=enough) == verdict
        mirror = {"better": "worse", "worse": "better"}.get(verdict, verdict)
        got = judge_interval(Interval(*ends), 0.01, enough=enough, more_is="worse")
        assert got == mirror

    @pytest.mark.parametrize(
        ("mean", "spread", "wordings", "overall"),
        [
            ("better", "better", "worse", "worse"),
            ("better", "worse", "better", "worse"),
            ("as robust", "as robust", "undecided", "as robust"),
            ("as robust", None, "as robust", "as robust"),
            ("as robust", "undecided", "undecided", "undecided"),
            ("as robust", "better", "undecided", "better"),
            ("better", "undecided", "undecided", "better"),
            ("undecided", "better", "better", "undecided"),
        ],
    )
    def test_overall(self, mean, spread, wordings, overall):
        assert Verdicts(mean, spread, wordings).overall == overall


class TestAsRobust:
    @pytest.mark.parametrize("items", [2, 10, 100, 367])
    def test_equal_answers_on_few_items_show_nothing(self, items):
        same = np.random.default_rng(0).random((4, items)) < 0.6
        comparison = compared(same, same)
        assert comparison.tasks[0].verdict == "undecided"
        assert "it needs about 370 items" in comparison.sentence("cases")

    def test_equal_answers_on_enough_items(self):
        same = np.random.default_rng(0).random((4, 400)) < 0.6
        comparison = compared(same, same)
        assert comparison.tasks[0].verdicts == ("as robust",) * 2 + ("as robust",)
        assert "compressed is as good and as robust as base within 1 point" in (
            comparison.sentence("cases")
        )

    def test_groups_count_once(self):
        same = np.random.default_rng(0).random((2, 500)) < 0.6
        groups = [str(i // 5) for i in range(500)]
        task = compared(same, same, groups=groups).tasks[0]
        assert (task.verdict, task.independent_count, task.needed_items) == ("undecided", 100, 1840)

    def test_the_needed_number_is_said_and_is_enough(self):
        draw = np.random.default_rng(1)
        first = draw.random((1, 500)) < 0.6
        comparison = compared(first, flipped(first, draw, 0.02))
        assert comparison.tasks[0].verdict == "undecided"
        assert comparison.tasks[0].needed_items == pytest.approx(2102, abs=10)
        assert "within 1 point, it needs about 2,100 items" in comparison.sentence("cases")
        many = draw.random((1, 2400)) < 0.6
        assert compared(many, flipped(many, draw, 0.02)).tasks[0].verdict == "as robust"


class TestBroken:
    def test_a_better_mean_does_not_hide_a_wording_that_broke(self):
        draw = np.random.default_rng(2)
        first = draw.random((20, 300)) < 0.5
        second = first.copy()
        for p in range(20):
            wrong = np.flatnonzero(~first[p])
            second[p, draw.choice(wrong, 16, replace=False)] = True  # 5.3 points up
        rights = np.flatnonzero(first[7])
        second[7] = first[7]
        second[7, rights[:120]] = False  # 40 points down
        comparison = compared(first, second)
        task = comparison.tasks[0]
        assert task.difference.interval.low > 0
        assert task.verdicts.mean == "better"
        assert (task.verdicts.wordings, task.verdict) == ("worse", "worse")
        assert [row.instruction_id for row in task.broken] == ["w7"]
        sentence = comparison.sentence("cases")
        assert "worse than base in some wordings" in sentence
        assert "although its mean is better" in sentence
        assert "w7 loses 40.0 points" in sentence

    def test_a_loss_inside_the_margin_breaks_nothing(self):
        first = np.ones((1, 3000), bool)
        second = first.copy()
        second[0, :10] = False
        task = compared(first, second, margin=0.02).tasks[0]
        assert task.instructions[0].adjusted_p < 0.01
        assert (task.broken, task.verdict) == ((), "as robust")
        task = compared(first, second, margin=0.001).tasks[0]
        assert (len(task.broken), task.verdict) == (1, "worse")

    def test_more_than_three_are_counted(self):
        draw = np.random.default_rng(4)
        first = draw.random((6, 300)) < 0.8
        second = draw.random((6, 300)) < np.array([0.8, 0.4, 0.5, 0.3, 0.45, 0.42])[:, None]
        comparison = compared(first, second)
        assert len(comparison.tasks[0].broken) == 5
        assert "and 2 more wordings lose." in comparison.sentence("cases")

    def test_groups_reach_the_tests_of_single_wordings(self):
        # One passage of 40 items lost: without groups McNemar's p is 2^-39.
        first = np.ones((2, 400), bool)
        second = first.copy()
        second[0, :40] = False
        groups = [str(i // 40) for i in range(400)]
        row = compared(first, second, groups=groups).tasks[0].instructions[0]
        assert row.test.p_value == pytest.approx(1, abs=0.01)
        assert row.interval.high > 0
        alone = compared(first, second).tasks[0]
        assert alone.instructions[0].test.p_value == pytest.approx(2.0**-39)
        assert alone.verdict == "worse"


class TestOverTasks:
    def test_effect_sizes(self):
        first = np.array([[1] * 50 + [0] * 50, [1] * 60 + [0] * 40], bool)
        second = np.array([[1] * 70 + [0] * 30, [1] * 90 + [0] * 10], bool)
        task = compared(first, second).tasks[0]
        assert (task.first_mean, task.second_mean) == pytest.approx((0.55, 0.8))
        expected = 2 * np.arcsin(np.sqrt(0.8)) - 2 * np.arcsin(np.sqrt(0.55))
        assert task.effect_size == pytest.approx(expected)
        assert task.drop_rate == pytest.approx(1 - 0.8 / 0.55)

    def test_p_is_corrected_over_the_tasks(self):
        draw, reports = np.random.default_rng(9), []
        for model, rates in (("base", (0.6, 0.6, 0.6)), ("other", (0.6, 0.66, 0.75))):
            cells = []
            for name, rate in zip("abc", rates, strict=True):
                cells += matrix_cells(draw.random((3, 150)) < rate, model=model, task=name)
            reports.append(Report(cells))
        comparison = compare(*reports)
        p = [task.p_value for task in comparison.tasks]
        assert comparison.adjusted_p == dict(zip("abc", holm(p), strict=True))
        assert comparison.adjusted_p["c"] < 0.01 < comparison.adjusted_p["a"]


class TestAgainstTheMedian:
    def test_mcnemar_against_the_median_with_holm(self):
        draw = np.random.default_rng(5)
        rates = np.array([0.7, 0.72, 0.5, 0.69, 0.71, 0.7, 0.68])
        right = draw.random((7, 250)) < rates[:, None]
        summary = matrix_report(right).summary("cases")
        order = right.mean(1).argsort(kind="stable")
        middle = summary.median
        assert middle.value == right[order[3]].mean()
        index = int(middle.instruction_id[1:])
        p = [mcnemar_exact(right[index], right[k]).p_value for k in range(7) if k != index]
        got = summary.against_median
        assert [row.adjusted_p for row in got] == pytest.approx(holm(p))
        assert [row.instruction_id for row in summary.broken] == ["w2"]
        assert {row.first_value for row in got} == {middle.value}

    def test_wordings_alike_are_seldom_named(self):
        draw, named = np.random.default_rng(6), 0
        for _ in range(40):
            hard = draw.random(120)
            named += bool(matrix_report(draw.random((6, 120)) < hard).summary("cases").broken)
        assert named <= 4

    def test_one_item_and_one_wording(self):
        assert matrix_report([[1], [0]]).summary("cases").against_median == ()
        assert matrix_report([[1, 0]]).summary("cases").against_median == ()


class TestControls:
    KINDS = ("wording", "wording", "negated", "wrong", "empty")

    def report(self, rates, items=300):
        draw = np.random.default_rng(7)
        right = draw.random((5, items)) < np.array(rates)[:, None]
        return right, matrix_report(right, kinds=self.KINDS)

    def test_they_enter_no_number_of_the_wordings(self):
        right, report = self.report([0.7, 0.8, 0.1, 0.2, 0.3])
        summary = report.summary("cases")
        alone = matrix_report(right[:2]).summary("cases")
        record, expected = summary.to_record(), alone.to_record()
        controls = record.pop("controls")
        assert record == expected
        assert [c["id"] for c in controls] == ["w2", "w3", "w4"]
        comparison = compare(report, matrix_report(right, model="other", kinds=self.KINDS))
        assert [row.instruction_id for row in comparison.tasks[0].instructions] == ["w0", "w1"]

    def test_whether_the_model_notices(self):
        right, report = self.report([0.7, 0.72, 0.2, 0.71, 0.66])
        checks = report.summary("cases").control_checks
        assert [check.kind for check in checks] == ["negated", "wrong", "empty"]
        assert checks[0].verdict == "notices"
        first = checks[0]
        usual = right[:2].mean(0)
        assert first.wordings_mean == pytest.approx(usual.mean())
        assert first.difference.mean == pytest.approx((right[2] - usual).mean())

    def test_a_model_that_does_not_notice(self):
        right = np.random.default_rng(8).random((1, 1000)).repeat(5, axis=0) < 0.7
        checks = matrix_report(right, kinds=self.KINDS).summary("cases").control_checks
        assert {check.verdict for check in checks} == {"does not notice"}
        few = matrix_report(right[:, :10], kinds=self.KINDS).summary("cases").control_checks
        assert {check.verdict for check in few} == {"undecided"}
        one = matrix_report(right[:, :1], kinds=self.KINDS).summary("cases").control_checks
        assert {check.verdict for check in one} == {"undecided"}
