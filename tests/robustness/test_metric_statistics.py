"""Intervals and tests of metrics besides accuracy, against scipy, formulas and simulation."""

import time
from itertools import product

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from metric_coverage import models, one_model

from metro_fast.errors import MetroFastError
from metro_fast.robustness.cochran import cochran_q
from metro_fast.robustness.gap import seen_gap
from metro_fast.robustness.paired import paired_difference
from metro_fast.robustness.resampling import paired_test, score_interval
from metro_fast.robustness.spread import spread_difference, wording_spread
from metro_fast.robustness.statistics import mcnemar_exact, wilson_interval
from metro_fast.scoring import METRICS, Answer

MACRO, MICRO, TOKENS = (METRICS[n] for n in ("semeval_macro_f1", "tacred_micro_f1", "token_f1"))
ACCURACY = METRICS["accuracy"]
REALS = st.tuples(st.integers(2, 6), st.integers(2, 12)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(-8, 8).map(lambda n: n / 7))
)


def right_or_wrong(values):
    return ACCURACY.parts([Answer("", "", bool(v)) for v in values])


class TestCochranForNumbers:
    @given(
        c=st.tuples(st.integers(2, 6), st.integers(2, 12)).flatmap(
            lambda shape: arrays(np.int64, shape, elements=st.integers(0, 1))
        )
    )
    def test_zeros_and_ones_have_cochrans_own_formula(self, c):
        prompts, by_prompt, by_item = len(c), c.sum(1), c.sum(0)
        below = prompts * c.sum() - (by_item**2).sum()
        above = (prompts - 1) * (prompts * (by_prompt**2).sum() - c.sum() ** 2)
        expected = above / below if below else 0
        assert cochran_q(c).statistic == pytest.approx(expected, abs=1e-12, rel=1e-12)

    @given(x=REALS)
    def test_of_ranks_it_is_friedmans(self, x):
        # scipy compares at least three samples, and divides by 0 where all items are ties.
        x = np.concatenate([x, x[:1] / 2])
        if (x == x[:1]).all():
            assert cochran_q(x) == (0.0, len(x) - 1, 1.0)
            return
        ranks = scipy.stats.rankdata(x, axis=0)
        expected = scipy.stats.friedmanchisquare(*x)
        got = cochran_q(ranks)
        assert got.statistic == pytest.approx(expected.statistic, abs=1e-9)
        assert got.p_value == pytest.approx(expected.pvalue, abs=1e-9)

    def test_items_that_agree_on_a_fraction_say_nothing(self):
        same = np.tile([[0.1, 0.7, 1 / 3]], (3, 1))
        assert cochran_q(same) == (0.0, 2, 1.0)
        x = np.array([[0.5, 1.0], [0.2, 0.4], [0.1, 0.9]])
        more = cochran_q(np.concatenate([x, same], axis=1))
        assert more.statistic == pytest.approx(cochran_q(x).statistic)

    def test_interchangeable_instructions_have_uniform_p(self):
        draw = np.random.default_rng(0)
        values = []
        for _ in range(300):
            # As token F1 is: many zeros, many ones, the rest between, by the item's difficulty.
            level = draw.beta(1, 1, size=80)
            x = np.round(np.clip(level + draw.normal(0, 0.5, (5, 80)), 0, 1) * 6) / 6
            values.append(cochran_q(x).p_value)
        assert scipy.stats.kstest(values, "uniform").pvalue > 0.001
        assert np.mean(np.array(values) < 0.05) == pytest.approx(0.05, abs=0.03)


class TestVarianceOfNumbers:
    @given(x=REALS)
    def test_two_way_table(self, x):
        got = wording_spread(x)
        prompts, items = x.shape
        total = ((x - x.mean()) ** 2).sum()
        by_prompt = items * ((x.mean(1) - x.mean()) ** 2).sum()
        by_item = prompts * ((x.mean(0) - x.mean()) ** 2).sum()
        degrees = (prompts - 1) * (items - 1)
        expected = (total - by_prompt - by_item) / degrees
        assert items * got.noise**2 == pytest.approx(expected, abs=1e-9)
        assert got.raw == pytest.approx(x.mean(1).std(ddof=1), abs=1e-12)

    @pytest.mark.parametrize("metric", [MACRO, TOKENS])
    def test_instructions_alike_differ_by_the_noise_alone(self, metric):
        draw, raws, noises = np.random.default_rng(0), [], []
        for _ in range(60):
            cells = models(metric.name, draw, 150, 6)
            got = wording_spread([metric.item_values(parts) for parts in cells])
            raw = np.std([metric.value(parts.sum(0)) for parts in cells], ddof=1)
            assert got.raw == pytest.approx(raw, abs=1e-12)
            raws.append(got.raw**2)
            noises.append(got.noise**2)
        assert np.mean(raws) == pytest.approx(np.mean(noises), rel=0.15)

    @pytest.mark.parametrize("metric", [MACRO, TOKENS])
    def test_paired_difference_has_the_bootstraps_standard_error(self, metric):
        first, second = models(metric.name, np.random.default_rng(3), 400, 2)
        got = paired_difference([metric.item_values(first)], [metric.item_values(second)])
        expected = metric.value(second.sum(0)) - metric.value(first.sum(0))
        assert got.mean == pytest.approx(float(expected), abs=1e-12)
        draw = np.random.default_rng(0)
        weights = draw.multinomial(400, np.full(400, 1 / 400), size=4000)
        spread = (metric.value(weights @ second) - metric.value(weights @ first)).std()
        assert got.standard_error == pytest.approx(spread, rel=0.05)

    def test_gap_and_spread_of_numbers(self):
        draw = np.random.default_rng(0)
        x = draw.random((10, 60))
        x[:5] += 0.2
        got = seen_gap(x, [True] * 5 + [False] * 5)
        assert got.gap == pytest.approx(x[:5].mean() - x[5:].mean())
        assert got.interval.low < got.gap < got.interval.high
        # The gap does not depend on the unit, nor does its p.
        wide = seen_gap(1e6 * x, [True] * 5 + [False] * 5)
        assert wide.gap == pytest.approx(1e6 * got.gap)
        assert wide.p_value == pytest.approx(got.p_value)
        assert got.p_value < 0.001
        spread = spread_difference(x, x / 2)
        assert spread.difference == pytest.approx(-wording_spread(x).sigma / 2)


class TestScoreInterval:
    @given(right=st.lists(st.booleans(), min_size=1, max_size=60), own=st.booleans())
    def test_a_share_has_wilsons(self, right, own):
        groups = [str(i) for i in range(len(right))] if own else None
        got = score_interval(ACCURACY, right_or_wrong(right), groups=groups, confidence=0.9)
        assert got == wilson_interval(sum(right), len(right), confidence=0.9)

    @pytest.mark.parametrize("metric", [MACRO, TOKENS])
    def test_equals_scipy(self, metric):
        parts = one_model(metric.name, np.random.default_rng(7), 200)
        got = score_interval(metric, parts, resamples=20_000)
        expected = scipy.stats.bootstrap(
            (np.arange(200),),
            lambda index, axis: metric.value(parts[index].sum(-2)),
            n_resamples=5000,
            method="BCa",
            vectorized=True,
            batch=500,
            rng=np.random.default_rng(1),
        ).confidence_interval
        width = expected.high - expected.low
        # The ends of 5,000 resamples have a standard error of about 1.5 % of the width.
        assert tuple(got) == pytest.approx(tuple(expected), abs=0.06 * width)

    def test_relations_that_a_resample_lacks_leave_the_mean(self):
        # B is right in its only item: the mean of A's .5 and 1, or A's alone without B.
        gold = ["A(e1,e2)"] * 40 + ["B(e1,e2)"]
        given = ["A(e1,e2)", "", "B(e1,e2)", ""] * 10 + ["B(e1,e2)"]
        answers = [Answer(g, p, g == p) for g, p in zip(gold, given, strict=True)]
        low, high = score_interval(MACRO, MACRO.parts(answers))
        assert 0.15 < low < 0.3 < high < 0.6

    @pytest.mark.parametrize("metric", [MACRO, TOKENS])
    def test_coverage(self, metric):
        # benches/metric_coverage.py has more runs: .94 to .96 at 100 and 400 items.
        draw, name = np.random.default_rng(11), metric.name
        truth = float(metric.value(one_model(name, np.random.default_rng(0), 50_000).sum(0)))
        ends = np.array(
            [
                score_interval(metric, one_model(name, draw, 100), resamples=400, seed=run)
                for run in range(150)
            ]
        )
        assert ((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean() >= 0.9
        assert (ends[:, 0] > truth).mean() <= 0.07
        assert (ends[:, 1] < truth).mean() <= 0.07

    def test_items_of_a_group_are_not_independent(self):
        for metric in (MACRO, TOKENS, ACCURACY):
            draw = np.random.default_rng(2)
            if metric is ACCURACY:
                whole = right_or_wrong(draw.random(60) < 0.7)
            else:
                whole = one_model(metric.name, draw, 60)
            groups = [f"{i // 5:02d}" for i in range(300)]
            once = score_interval(metric, whole)
            alone = score_interval(metric, whole.repeat(5, axis=0))
            grouped = score_interval(metric, whole.repeat(5, axis=0), groups=groups)
            # The share's variance is estimated from the groups, the resamples are the same ones.
            near = 0.01 if metric is ACCURACY else 1e-9
            assert tuple(grouped) == pytest.approx(tuple(once), abs=near)
            assert alone.high - alone.low < 0.6 * (once.high - once.low)

    def test_coverage_of_a_share_in_groups(self):
        draw, groups, covered = np.random.default_rng(0), [str(i // 10) for i in range(150)], 0
        for _ in range(400):
            chance = draw.beta(3, 1.5, size=15).repeat(10)
            low, high = score_interval(
                ACCURACY, right_or_wrong(draw.random(150) < chance), groups=groups
            )
            covered += low <= 2 / 3 <= high
        assert covered / 400 == pytest.approx(0.95, abs=0.03)

    def test_resamples_without_spread_do_not_make_a_score_certain(self):
        perfect = [Answer(f"R{i % 3}(e1,e2)", f"R{i % 3}(e1,e2)", True) for i in range(12)]
        na = [Answer("Other", "Other", True)] * 30
        for metric, answers, counted in (
            (MACRO, perfect, 12),
            (MACRO, perfect + na, 12),  # items of Other that nobody guesses count in nothing
            (TOKENS, [Answer("x", "x", True)] * 9, 9),
        ):
            got = score_interval(metric, metric.parts(answers))
            assert got == wilson_interval(counted, counted)
        wrong = [Answer(a.gold, "", False) for a in perfect]
        assert score_interval(MACRO, MACRO.parts(wrong)) == wilson_interval(0, 12)
        low, high = score_interval(TOKENS, TOKENS.parts([Answer("x y", "x z", False)] * 2))
        assert low < 0.1
        assert high > 0.9

    def test_bad_arguments(self):
        parts = right_or_wrong([1, 0])
        with pytest.raises(MetroFastError, match="resamples is 5"):
            score_interval(TOKENS, parts, resamples=5)
        with pytest.raises(MetroFastError, match="confidence is 95"):
            score_interval(ACCURACY, parts, confidence=95)
        with pytest.raises(MetroFastError, match="1 groups for 2 items"):
            score_interval(ACCURACY, parts, groups=["a"])
        with pytest.raises(MetroFastError, match="NaN or infinite"):
            score_interval(TOKENS, [[float("nan"), 1]])
        with pytest.raises(MetroFastError, match=r"parts has shape \(2,\)"):
            score_interval(TOKENS, [1, 0])
        with pytest.raises(TypeError, match="dtype"):
            score_interval(TOKENS, [["1", "0"]])
        with pytest.raises(MetroFastError, match="needs 0 or 1 for each"):
            score_interval(ACCURACY, [[0.5, 1]])


class TestPairedTest:
    @given(first=st.lists(st.booleans(), min_size=1, max_size=40), data=st.data())
    def test_for_a_share_it_is_mcnemars(self, first, data):
        size = len(first)
        second = data.draw(st.lists(st.booleans(), min_size=size, max_size=size))
        expected = mcnemar_exact(first, second)
        got = paired_test(ACCURACY, right_or_wrong(first), right_or_wrong(second))
        assert got == (expected.p_value, expected.only_first, expected.only_second)

    @pytest.mark.parametrize("metric", [MACRO, TOKENS])
    def test_equals_all_exchanges(self, metric):
        first, second = models(metric.name, np.random.default_rng(5), 10, 2)

        def gap(exchanged):
            a, b = np.where(exchanged, second, first), np.where(exchanged, first, second)
            return abs(metric.value(a.sum(0)) - metric.value(b.sum(0)))

        gaps = [gap(np.array(swap)[:, None]) for swap in product([False, True], repeat=10)]
        expected = np.mean(np.array(gaps) >= gaps[0] - 1e-12)
        got = paired_test(metric, first, second).p_value
        assert 0.02 < expected < 0.98
        assert got == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 9999))

    @pytest.mark.parametrize("metric", [MACRO, TOKENS])
    def test_equals_scipy(self, metric):
        first, second = models(metric.name, np.random.default_rng(1), 120, 2)
        both = np.concatenate([first, second])
        expected = scipy.stats.permutation_test(
            (np.arange(120), np.arange(120, 240)),
            lambda a, b, axis: metric.value(both[a].sum(-2)) - metric.value(both[b].sum(-2)),
            permutation_type="samples",
            n_resamples=4999,
            vectorized=True,
            batch=500,
            rng=np.random.default_rng(0),
        ).pvalue
        assert paired_test(metric, first, second).p_value == pytest.approx(expected, abs=0.05)

    def test_which_model_is_better_on_an_item(self):
        gold = ["A(e1,e2)", "A(e1,e2)", "B(e1,e2)", "Other", "Other", "B(e1,e2)"]
        one = ["A(e1,e2)", "", "B(e1,e2)", "Other", "A(e1,e2)", "C(e1,e2)"]
        two = ["", "B(e1,e2)", "B(e1,e2)", "A(e1,e2)", "A(e2,e1)", ""]
        first, second = (
            MACRO.parts([Answer(g, p, g == p) for g, p in zip(gold, given, strict=True)])
            for given in (one, two)
        )
        # A hit, a skipped item against a wrong guess, and no false guess of A at the fourth. The
        # two guesses of A at the fifth count alike, and so do the last two.
        assert paired_test(MACRO, first, second)[1:] == (3, 0)
        assert paired_test(MACRO, second, first)[1:] == (0, 3)

    @pytest.mark.parametrize("metric", [MACRO, MICRO, TOKENS, ACCURACY])
    def test_equal_answers(self, metric):
        answers = [Answer("A(e1,e2)", "A(e1,e2)", True), Answer("A(e1,e2)", "", False)] * 4
        parts = metric.parts(answers)
        assert paired_test(metric, parts, parts) == (1.0, 0, 0)

    @pytest.mark.parametrize("metric", [MACRO, TOKENS])
    def test_null_rate(self, metric):
        draw = np.random.default_rng(0)
        values = [
            paired_test(metric, *models(metric.name, draw, 100, 2), swaps=399, seed=run).p_value
            for run in range(150)
        ]
        assert scipy.stats.kstest(values, "uniform").pvalue > 0.001
        assert np.mean(np.array(values) <= 0.05) <= 0.1

    def test_a_difference_is_found(self):
        first = [Answer("x y", "x y", True)] * 20 + [Answer("x y", "", False)] * 20
        second = [Answer("x y", "x", False)] * 20 + [Answer("x y", "", False)] * 20
        got = paired_test(TOKENS, TOKENS.parts(first), TOKENS.parts(second))
        assert got == (pytest.approx(1e-4), 20, 0)  # 1 of 10,000, the smallest

    def test_groups_are_exchanged_as_wholes(self):
        first = TOKENS.parts([Answer("x", "x", True)] * 20)
        second = TOKENS.parts([Answer("x", "", False)] * 20)
        groups = [str(i // 10) for i in range(20)]
        # Two groups: 2 of 4 exchanges are as large. Also for shares, where items are not exchanged.
        got = paired_test(TOKENS, first, second, groups=groups)
        assert got.p_value == pytest.approx(0.5, abs=0.02)
        assert paired_test(ACCURACY, first, second, groups=groups).p_value == got.p_value
        assert paired_test(ACCURACY, first, second).p_value < 1e-5

    def test_it_takes_less_than_a_fifth_of_a_second(self):
        first, second = models(MACRO.name, np.random.default_rng(0), 400, 2)
        assert first.shape == (400, 27)
        taken = []
        for _ in range(3):
            start = time.process_time()
            paired_test(MACRO, first, second)
            taken.append(time.process_time() - start)
        assert min(taken) < 0.2

    def test_many_items_go_in_blocks(self, monkeypatch):
        first, second = models(TOKENS.name, np.random.default_rng(0), 100, 2)
        whole = paired_test(TOKENS, first, second), score_interval(TOKENS, first)
        monkeypatch.setattr("metro_fast.robustness.resampling._NUMBERS_AT_ONCE", 1000)
        parted = paired_test(TOKENS, first, second), score_interval(TOKENS, first)
        assert parted[0].p_value == pytest.approx(whole[0].p_value, abs=0.02)
        assert tuple(parted[1]) == pytest.approx(tuple(whole[1]), abs=1e-12)

    def test_bad_arguments(self):
        parts = right_or_wrong([1, 0])
        with pytest.raises(MetroFastError, match="expected the same items"):
            paired_test(TOKENS, parts, parts[:1])
        with pytest.raises(MetroFastError, match="swaps is 9"):
            paired_test(TOKENS, parts, parts, swaps=9)
        with pytest.raises(MetroFastError, match="1 groups for 2 items"):
            paired_test(TOKENS, parts, parts, groups=["a"])
        with pytest.raises(MetroFastError, match="NaN or infinite"):
            paired_test(TOKENS, parts, np.full((2, 2), np.inf))
