"""Numbers over wordings by their published definitions, on one scale, and over models."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from matrix_cases import matrix_cells, matrix_report
from metro_fast.errors import MetroFastError
from metro_fast.robustness import Report
from metro_fast.robustness.facets import adjusted_gaps, facets, pooled, task_gap
from metro_fast.robustness.over_wordings import (
    combined_score,
    drop_rate,
    honest_worst,
    over_wordings,
)
from metro_fast.robustness.rank_stability import model_ranks, rank_stability
from metro_fast.robustness.scale import chance_corrected, cohens_h, on_scale
from metro_fast.robustness.spread import wording_spread
from metro_fast.robustness.statistics import holm, wilson_interval
from shared_files import shared_files

SHARES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def published(
    folder: Path, metric: str, kept: str = "correct_paraphrases_only"
) -> dict[tuple[str, str], float]:
    """The cells of a published table, by task and model."""
    path = folder / f"metric_open-source_models_{metric}_({kept}).csv"
    rows = list(csv.reader(path.read_text().splitlines()))
    return {
        (row[1], model): float(value)
        for row in rows[1:]
        for model, value in zip(rows[0][2:], row[2:], strict=True)
        if value
    }


class TestPublishedTables:
    @pytest.mark.parametrize("folder", shared_files("results/multiprompt"))
    @pytest.mark.parametrize("kept", ["correct_paraphrases_only", "no_filtering"])
    def test_every_published_score_of_mizrahi_et_al(self, folder, kept):
        cps, best, mean = (published(folder, name, kept) for name in ("CPS", "MaxP", "AvgP"))
        assert len(cps) == 289  # the copy lacks the 160 cells of LMentry
        for cell, value in cps.items():
            assert combined_score(best[cell], mean[cell]) == pytest.approx(value, abs=1e-12)

    @pytest.mark.parametrize("folder", shared_files("results/multiprompt"))
    def test_from_the_accuracies_of_paraphrases(self, folder):
        cps, best, mean = (published(folder, name) for name in ("CPS", "MaxP", "AvgP"))
        equal = 0
        for path in sorted(folder.glob("BBH__*.json")):
            task = path.stem.removeprefix("BBH__")
            rows = [r for r in json.loads(path.read_text()).values() if r["correct"]]
            for model in rows[0]["accs"]:
                got = over_wordings([row["accs"][model] for row in rows])
                key = (task, model)
                assert got.cps == pytest.approx(cps[key], abs=0.0012)
                average = np.mean([row["accs"][model] for row in rows])
                equal += average == pytest.approx(mean[key], abs=1e-9) and max(
                    row["accs"][model] for row in rows
                ) == pytest.approx(best[key], abs=1e-9)
        # The others are of one task, by up to .0012 in the mean.
        assert equal == 154


class TestOverWordings:
    @given(values=SHARES)
    def test_definitions(self, values):
        got, best, mean = over_wordings(values), max(values), float(np.mean(values))
        assert got.saturation == pytest.approx(1 - (best - mean))
        assert got.cps == pytest.approx(got.saturation * best)
        assert got.quantiles == pytest.approx(
            tuple(np.percentile(values, (5, 25, 50, 75, 95)).tolist())
        )
        assert got.drop_rate == (None if best == 0 else pytest.approx((best - mean) / best))

    def test_the_noise_is_taken_out_of_the_quantiles(self):
        # Alike wordings have one true value; the raw quantiles are 12 points apart.
        draw = np.random.default_rng(0)
        x = draw.random((20, 100)) < 0.6
        spread = wording_spread(x)
        got = over_wordings(x.mean(1), sigma=spread.sigma, raw=spread.raw)
        assert got.quantiles[-1] - got.quantiles[0] > 0.1
        assert got.true_quantiles[-1] - got.true_quantiles[0] < 0.05
        kept = np.std(got.true_quantiles) / np.std(got.quantiles)
        assert kept == pytest.approx(spread.sigma / spread.raw)

    def test_drop_rate(self):
        # PromptBench: 1 - sum over attacked / sum over original.
        assert drop_rate(0.45, 0.6) == pytest.approx(0.25)
        assert drop_rate(0.9, 0.6) == pytest.approx(-0.5)
        assert drop_rate(0.0, 0.0) is None

    def test_the_worst_of_wordings_alike_is_no_worse(self):
        draw, naive, honest = np.random.default_rng(1), [], []
        for run in range(60):
            x = draw.random((20, 100)) < 0.6
            naive.append(x.mean(1).min())
            honest.append(honest_worst(x, seed=run))
        assert np.mean(naive) == pytest.approx(0.51, abs=0.015)
        assert np.mean(honest) == pytest.approx(0.6, abs=0.012)

    def test_a_wording_that_is_worse_is_found(self):
        x = np.random.default_rng(2).random((6, 200)) < np.array([[0.7]] * 5 + [[0.3]])
        assert honest_worst(x) == pytest.approx(x[5].mean(), abs=0.01)
        groups = [str(i // 100) for i in range(200)]
        assert honest_worst(x, groups=groups) == pytest.approx(x[5].mean())

    def test_bad_arguments(self):
        for values in ([], [1.2], [float("nan")]):
            with pytest.raises(MetroFastError):
                over_wordings(values)
        with pytest.raises(MetroFastError, match="cannot be halved"):
            honest_worst([[1, 0]], groups=["a", "a"])
        with pytest.raises(MetroFastError, match=r"shape \(2,\)"):
            honest_worst([1, 0])


class TestWorstCase:
    def test_items_right_under_every_wording(self):
        right = np.random.default_rng(0).random((4, 90)) < 0.8
        got = matrix_report(right).summary("cases").worst_case
        assert got.always_right == right.all(0).mean()
        assert got.ever_right == right.any(0).mean()
        assert got.interval == wilson_interval(int(right.all(0).sum()), 90)
        assert got.worst_wording == honest_worst(right)

    def test_groups_widen_it(self):
        right = (np.random.default_rng(0).random((2, 30)) < 0.8).repeat(4, axis=1)
        alone = matrix_report(right).summary("cases").worst_case.interval
        groups = [str(i // 4) for i in range(120)]
        wide = matrix_report(right, groups=groups).summary("cases").worst_case.interval
        assert wide.high - wide.low > 1.5 * (alone.high - alone.low)


class TestKinds:
    def test_format_and_order_have_spreads_of_their_own(self):
        rates = np.array([0.7, 0.7, 0.7, 0.2, 0.5, 0.8, 0.6, 0.6])[:, None]
        right = np.random.default_rng(0).random((8, 400)) < rates
        kinds = ["wording"] * 3 + ["format"] * 3 + ["order"] * 2
        rows = matrix_report(right, kinds=kinds).summary("cases").kinds
        assert [(row.kind, row.instructions) for row in rows] == [
            ("wording", 3), ("format", 3), ("order", 2),
        ]  # fmt: skip
        for row, part in zip(rows, (right[:3], right[3:6], right[6:]), strict=True):
            assert row.mean == pytest.approx(part.mean())
            assert row.spread == wording_spread(part)
        assert rows[1].spread.sigma > 0.2 > 0.05 > rows[0].spread.sigma
        assert matrix_report(right).summary("cases").kinds == ()


class TestScale:
    def test_two_tasks_of_different_room(self):
        # 50 % of two choices is guessing, and 62.5 % is a quarter of the way.
        assert chance_corrected(0.5, 0.5) == 0
        assert chance_corrected(0.625, 0.5) == pytest.approx(0.25)
        assert chance_corrected(0.4, 0.25) == pytest.approx(0.2)
        got = on_scale(0.2, 0.1, 0.04, None)
        assert (got.mean, got.worst, got.sigma) == (0.2, 0.1, 0.04)
        assert got.relative_sigma == pytest.approx(0.1)
        assert got.logit_sigma == pytest.approx(0.25)
        assert on_scale(1.0, 1.0, 0.0, 0.5).relative_sigma is None
        assert on_scale(0.5, 0.5, None, 0.5).sigma is None
        for chance in (1.0, -0.1, float("nan")):
            with pytest.raises(MetroFastError, match="expected a share from 0 to below 1"):
                chance_corrected(0.5, chance)

    def test_logit_sigma_is_that_of_the_log_odds(self):
        rates = 0.7 + 0.02 * np.random.default_rng(0).normal(size=2000)
        expected = scipy.special.logit(rates).std()
        got = on_scale(rates.mean(), rates.min(), rates.std(), 0.0).logit_sigma
        assert got == pytest.approx(expected, rel=0.02)

    @given(a=st.floats(0, 1), b=st.floats(0, 1))
    def test_cohens_h(self, a, b):
        got = cohens_h(a, b)
        assert got == pytest.approx(-cohens_h(b, a), abs=1e-12)
        assert -math.pi <= got <= math.pi
        assert cohens_h(0, 1) == pytest.approx(math.pi)
        with pytest.raises(MetroFastError, match="expected numbers from 0 to 1"):
            cohens_h(1.5, 0)


MODELS = st.tuples(st.integers(3, 6), st.integers(2, 6)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(0, 5).map(float))
)


class TestRankStability:
    @given(x=MODELS)
    def test_against_friedman_and_kendall(self, x):
        got = rank_stability(x)
        models, wordings = x.shape
        taus = [
            scipy.stats.kendalltau(x[:, i], x[:, k]).statistic
            for i in range(wordings)
            for k in range(i)
        ]
        # scipy gives NaN where a wording ranks all models alike, which is not an agreement.
        assert got.tau == pytest.approx(np.mean(np.nan_to_num(taus)), abs=1e-9)
        if (x == x[:1]).all():
            assert (got.w, got.p_value) == (0, 1)
            return
        if wordings >= 3:
            expected = scipy.stats.friedmanchisquare(*x)
            assert got.w == pytest.approx(expected.statistic / wordings / (models - 1), abs=1e-9)
            assert got.p_value == pytest.approx(expected.pvalue, abs=1e-9)

    def test_the_best_model_depends_on_the_wording(self):
        got = rank_stability([[0.9, 0.9, 0.2], [0.5, 0.6, 0.6]])
        assert got.best_share == pytest.approx(2 / 3)

    def test_of_reports(self):
        draw = np.random.default_rng(0)
        rows = [draw.random((5, 60)) < rate for rate in (0.3, 0.5, 0.8)]
        reports = [matrix_report(x, model=f"m{i}") for i, x in enumerate(rows)]
        got = model_ranks(reports, "cases")
        assert got == rank_stability([x.mean(1) for x in rows])
        assert got.w > 0.9
        other = matrix_report(rows[0][:, :50], model="other")
        with pytest.raises(MetroFastError, match="items_hash differs"):
            model_ranks([reports[0], other], "cases")

    def test_bad_shapes(self):
        for x in ([[1.0, 2.0]], [[1.0], [2.0]], [1.0], [[1.0, float("nan")]] * 2):
            with pytest.raises(MetroFastError, match="at least 2 of each"):
                rank_stability(x)


class TestFacets:
    @staticmethod
    def report(*tasks, rates=(0.7, 0.8, 0.6), **keywords):
        draw, cells = np.random.default_rng(0), []
        for name in tasks:
            right = draw.random((len(rates), 120)) < np.array(rates)[:, None]
            cells += matrix_cells(right, task=name, **keywords)
        return Report(cells)

    def test_each_task_counts_the_same(self):
        report = self.report("one", "two")
        got = facets(report)
        assert [(facet.task_type, facet.tasks) for facet in got] == [
            ("one", ("one",)), ("two", ("two",)),
        ]  # fmt: skip
        summaries = [report.summary(name) for name in report.tasks]
        both = pooled(summaries, "qa")
        expected = np.mean([2 * s.mean - 1 for s in summaries])  # two choices
        assert both.scaled.mean == pytest.approx(expected)
        # Not the standard deviation of all values of both.
        sigma = np.mean([2 * s.variance.sigma for s in summaries])
        assert both.scaled.sigma == pytest.approx(sigma)

    def test_what_must_not_be_mixed_is_refused(self):
        one = self.report("one").summary("one")
        for other, label in (
            (self.report("two", model="other"), "model"),
            (self.report("two", preset="t0"), "preset"),
            (self.report("two", rates=(0.5, 0.6)), "instructions"),
        ):
            with pytest.raises(MetroFastError, match=f"differ in {label} .* must not be mixed"):
                pooled([one, other.summary("two")])
        with pytest.raises(MetroFastError, match="expected at least one task"):
            pooled([])

    def test_seen_tasks_have_welchs_test(self):
        values = {"a": 0.7, "b": 0.8, "c": 0.4, "d": 0.5, "e": 0.35}
        got = task_gap(values, ["a", "b"])
        expected = scipy.stats.ttest_ind([0.7, 0.8], [0.4, 0.5, 0.35], equal_var=False)
        assert got.gap == pytest.approx(0.75 - np.mean([0.4, 0.5, 0.35]))
        assert got.p_value == pytest.approx(expected.pvalue)
        assert tuple(got.interval) == pytest.approx(tuple(expected.confidence_interval()))
        one = task_gap(values, ["a"])
        assert (one.interval, one.p_value, one.seen_count) == (None, None, 1)
        with pytest.raises(MetroFastError, match="0 of 5 tasks are seen"):
            task_gap(values, [])

    def test_gaps_are_corrected_over_tasks(self):
        seen = [True] * 5 + [False] * 5
        report = self.report("one", "two", rates=[0.7] * 5 + [0.6] * 5, seen=seen)
        p = [report.summary(name).gap.p_value for name in report.tasks]
        assert adjusted_gaps(report) == pytest.approx(dict(zip(report.tasks, holm(p), strict=True)))
        assert adjusted_gaps(self.report("one")) == {}
