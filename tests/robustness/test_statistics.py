"""Statistics against scipy, values worked by hand and simulation."""

from itertools import combinations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from metro_fast.errors import MetroFastError
from metro_fast.robustness.agreement import consistency_rate, flip_rates, majority_share
from metro_fast.robustness.gap import paired_difference, seen_gap, std_difference
from metro_fast.robustness.statistics import (
    as_values,
    cochran_q,
    holm,
    mcnemar_exact,
    prompt_variance,
    wilson_interval,
)

MATRICES = st.tuples(st.integers(2, 6), st.integers(2, 12)).flatmap(
    lambda shape: arrays(np.int64, shape, elements=st.integers(0, 1))
)


class TestWilson:
    @given(total=st.integers(1, 500), share=st.floats(0, 1), confidence=st.floats(0.5, 0.999))
    def test_equals_scipy(self, total, share, confidence):
        correct = round(total * share)
        expected = scipy.stats.binomtest(correct, total).proportion_ci(confidence, "wilson")
        got = wilson_interval(correct, total, confidence=confidence)
        assert tuple(got) == pytest.approx((expected.low, expected.high), abs=1e-9)

    @pytest.mark.parametrize(("correct", "total"), [(-1, 5), (6, 5), (0, 0)])
    def test_bad_counts(self, correct, total):
        with pytest.raises(MetroFastError, match=f"{correct} right of {total}"):
            wilson_interval(correct, total)

    @pytest.mark.parametrize("confidence", [0.0, 1.0, 95])
    def test_bad_confidence(self, confidence):
        with pytest.raises(MetroFastError, match="confidence"):
            wilson_interval(1, 2, confidence=confidence)


class TestMcNemar:
    @given(first=st.lists(st.booleans(), min_size=1, max_size=40), data=st.data())
    def test_equals_the_binomial_test(self, first, data):
        size = len(first)
        second = data.draw(st.lists(st.booleans(), min_size=size, max_size=size))
        got = mcnemar_exact(first, second)
        b = sum(x and not y for x, y in zip(first, second, strict=True))
        c = sum(y and not x for x, y in zip(first, second, strict=True))
        assert (got.only_first, got.only_second) == (b, c)
        expected = scipy.stats.binomtest(b, b + c).pvalue if b + c else 1.0
        assert got.p_value == pytest.approx(expected, abs=1e-12)

    def test_lengths(self):
        with pytest.raises(MetroFastError, match="2 items against 1"):
            mcnemar_exact([1, 0], [1])

    def test_other_values_than_0_and_1(self):
        for first, second in (([1, 2], [0, 1]), ([1, 0], [0.5, 1])):
            with pytest.raises(MetroFastError, match="besides 0 and 1; use paired_test"):
                mcnemar_exact(first, second)


class TestCochran:
    def test_worked_example(self):
        # G = 4, 3, 1; items right L = 3, 2, 2, 1, 0, so sum L = 8, sum L^2 = 18.
        # Q = (3-1) (3 (16 + 9 + 1) - 8^2) / (3 * 8 - 18) = 2 * 14 / 6.
        got = cochran_q([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
        assert got.statistic == pytest.approx(14 / 3)
        assert got.degrees_of_freedom == 2
        assert got.p_value == pytest.approx(np.exp(-7 / 3))  # chi2 with 2 degrees

    def test_items_on_which_all_agree_say_nothing(self):
        c = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]])
        more = np.concatenate([c, np.ones((3, 4), int), np.zeros((3, 5), int)], axis=1)
        assert cochran_q(more).statistic == pytest.approx(cochran_q(c).statistic)
        assert cochran_q(np.ones((3, 4))) == (0.0, 2, 1.0)

    @given(c=MATRICES)
    def test_for_two_it_is_mcnemar_without_correction(self, c):
        pair = c[:2]
        counts = mcnemar_exact(pair[0], pair[1])
        discordant = counts.only_first + counts.only_second
        expected = (counts.only_first - counts.only_second) ** 2 / discordant if discordant else 0
        assert cochran_q(pair).statistic == pytest.approx(expected)

    def test_interchangeable_instructions_have_uniform_p(self):
        draw = np.random.default_rng(0)
        values = [cochran_q(draw.random((5, 80)) < 0.6).p_value for _ in range(300)]
        assert scipy.stats.kstest(values, "uniform").pvalue > 0.001

    def test_one_instruction(self):
        with pytest.raises(MetroFastError, match="compares at least 2"):
            cochran_q([[1, 0]])


class TestPromptVariance:
    def test_worked_example(self):
        # Means .5, .75, .25 over 4 items; grand mean .5; item means 1, 2/3, 1/3, 0.
        c = [[1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0]]
        got = prompt_variance(c)
        assert got.raw_std == pytest.approx(0.25)
        assert got.mean_square_prompt == pytest.approx(0.25)
        # Total SS = 3, items 5/3, instructions .5; the rest over 6 degrees is .8333/6.
        assert got.mean_square_residual == pytest.approx((3 - 5 / 3 - 0.5) / 6)
        assert got.sigma_prompt == pytest.approx(np.sqrt((0.25 - 5 / 36) / 4))

    def test_twenty_interchangeable_instructions_at_100_items(self):
        draw = np.random.default_rng(1)
        variances = []
        for _ in range(200):
            # Items differ in difficulty; instructions do not.
            chance = draw.beta(2, 2, size=100)
            variances.append(prompt_variance(draw.random((20, 100)) < chance))
        raw = np.sqrt(np.mean([v.raw_std**2 for v in variances]))
        noise = np.sqrt(np.mean([v.noise_std**2 for v in variances]))
        assert raw == pytest.approx(noise, rel=0.03)
        assert np.median([v.sigma_prompt for v in variances]) < 0.012

    def test_a_true_effect_is_found(self):
        draw = np.random.default_rng(2)
        effects = np.linspace(0.4, 0.8, 20)[:, None]
        found = [prompt_variance(draw.random((20, 100)) < effects).sigma_prompt for _ in range(50)]
        assert np.mean(found) == pytest.approx(effects.std(ddof=1), rel=0.05)

    @given(c=MATRICES)
    def test_equals_the_sums_of_squares_of_a_two_way_table(self, c):
        got = prompt_variance(c)
        prompts, items = c.shape
        total = ((c - c.mean()) ** 2).sum()
        by_prompt = items * ((c.mean(1) - c.mean()) ** 2).sum()
        by_item = prompts * ((c.mean(0) - c.mean()) ** 2).sum()
        degrees = (prompts - 1) * (items - 1)
        expected = (total - by_prompt - by_item) / degrees
        assert got.mean_square_residual == pytest.approx(expected, abs=1e-12)
        assert got.raw_std == pytest.approx(c.mean(1).std(ddof=1))

    def test_too_small(self):
        with pytest.raises(MetroFastError, match="1 instructions, 2 items"):
            prompt_variance([[1, 0]])


class TestAsValues:
    def test_bad_values(self):
        with pytest.raises(TypeError, match="dtype"):
            as_values([["1", "0"]])
        with pytest.raises(TypeError, match="dtype complex128"):
            as_values([[1j, 0]])
        for value in (float("nan"), float("inf"), -float("inf")):
            with pytest.raises(MetroFastError, match="NaN or infinite"):
                as_values([[1, value]])
        with pytest.raises(MetroFastError, match=r"shape \(2,\)"):
            as_values([1, 0])
        with pytest.raises(MetroFastError, match=r"shape \(0, 3\)"):
            as_values(np.zeros((0, 3)))

    @pytest.mark.parametrize(
        "use",
        [
            prompt_variance,
            cochran_q,
            lambda x: seen_gap(x, [True, False]),
            lambda x: paired_difference(x, x),
            lambda x: std_difference(x, x),
        ],
    )
    def test_every_statistic_takes_numbers_and_refuses_nan(self, use):
        use([[0.5, 1.5, -0.2], [0.25, 0.0, 1]])
        with pytest.raises(MetroFastError, match="NaN or infinite"):
            use([[0.5, 1.5, -0.2], [0.25, float("nan"), 1]])


class TestHolm:
    def test_worked_example(self):
        assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
        assert holm([0.6, 0.9]) == [1.0, 1.0]
        assert holm([]) == []

    def test_bad_values(self):
        with pytest.raises(MetroFastError, match="p values"):
            holm([1.5])


class TestAgreement:
    @given(p=MATRICES)
    def test_consistency_counts_unordered_pairs(self, p):
        pairs = [(a, b) for column in p.T.tolist() for a, b in combinations(column, 2)]
        assert consistency_rate(p) == pytest.approx(sum(a == b for a, b in pairs) / len(pairs))

    def test_flip_rates(self):
        assert flip_rates([[0, 1, 2], [0, 1, 1], [0, 2, 0]]) == pytest.approx([0, 1 / 3, 2 / 3])

    def test_bad_shapes(self):
        with pytest.raises(MetroFastError, match="shape"):
            consistency_rate([0, 1])
        with pytest.raises(MetroFastError, match="compares at least 2"):
            consistency_rate([[0, 1]])
        with pytest.raises(MetroFastError, match="no labels"):
            majority_share([])


class TestSeenGap:
    def test_few_instructions_give_no_test(self):
        draw = np.random.default_rng(0)
        got = seen_gap(draw.random((8, 50)) < 0.5, [True] * 4 + [False] * 4)
        assert got.p_value is None
        assert "fewer than 5 per side, so there is an interval, but no test" in got.note

    def test_exact_permutation(self):
        c = np.zeros((10, 10), dtype=int)
        for p in range(10):
            c[p, : 9 - p] = 1
        got = seen_gap(c, [True] * 5 + [False] * 5)
        assert got.gap == pytest.approx(0.5)
        assert got.p_value == pytest.approx(2 / 252)  # this split and its mirror image
        assert got.note == "5 seen and 5 unseen instructions"

    def test_random_permutation(self):
        draw = np.random.default_rng(0)
        c = draw.random((24, 60)) < 0.5
        seen = [True] * 12 + [False] * 12
        equal = seen_gap(c, seen)
        assert 0.01 < equal.p_value <= 1
        c[:12] |= draw.random((12, 60)) < 0.5
        assert seen_gap(c, seen).p_value == pytest.approx(1e-4)  # 1 of 10,000, the smallest
        assert seen_gap(c, seen) == seen_gap(c, seen)

    @pytest.mark.parametrize(
        ("side", "effect", "items"), [(8, 0.06, 80), (8, 0.15, 80), (4, 0.15, 100), (2, 0.15, 100)]
    )
    def test_interval_covers_the_truth(self, side, effect, items):
        draw = np.random.default_rng(5)
        seen = np.arange(2 * side) < side
        covered = 0
        for _ in range(100):
            rates = 0.55 + effect * draw.standard_normal(2 * side) + 0.1 * seen
            c = draw.random((2 * side, items)) < rates.clip(0.02, 0.98)[:, None]
            low, high = seen_gap(c, seen, resamples=200).interval
            covered += low <= 0.1 <= high
        assert covered >= 90

    def test_items_of_a_group_are_drawn_together(self):
        draw = np.random.default_rng(3)
        seen = [True, False]
        whole = draw.random((2, 20)) < 0.5
        c = whole.repeat(5, axis=1)
        groups = [f"passage {i // 5}" for i in range(100)]
        alone, grouped = seen_gap(c, seen), seen_gap(c, seen, groups=groups)
        width = grouped.interval.high - grouped.interval.low
        assert width > 1.7 * (alone.interval.high - alone.interval.low)
        small = seen_gap(whole, seen)
        assert width == pytest.approx(small.interval.high - small.interval.low, abs=0.06)

    def test_bad_arguments(self):
        c = [[1, 0], [0, 1]]
        with pytest.raises(MetroFastError, match="all are of one kind"):
            seen_gap(c, [True, True])
        with pytest.raises(MetroFastError, match="3 seen flags for 2 instructions"):
            seen_gap(c, [True, False, True])
        with pytest.raises(MetroFastError, match="resamples is 5"):
            seen_gap(c, [True, False], resamples=5)
        with pytest.raises(MetroFastError, match="1 groups for 2 items"):
            seen_gap(c, [True, False], groups=["a"])


class TestPairedDifference:
    @given(c=MATRICES)
    def test_without_groups_it_is_the_paired_standard_error(self, c):
        a, b = c[:1], c[1:2]
        d = (b - a)[0]
        got = paired_difference(a, b)
        assert got.mean == pytest.approx(d.mean())
        assert got.standard_error == pytest.approx(np.sqrt(d.var(ddof=1) / len(d)), abs=1e-12)
        half = scipy.stats.norm.ppf(0.975) * got.standard_error
        assert got.interval.high - got.mean == pytest.approx(half, abs=1e-12)

    def test_repeated_items_are_worth_one(self):
        draw = np.random.default_rng(0)
        a, b = draw.random((2, 3, 30)) < 0.5
        groups = [str(i // 4) for i in range(120)]
        once = paired_difference(a, b)
        repeated = paired_difference(a.repeat(4, axis=1), b.repeat(4, axis=1), groups=groups)
        assert repeated.standard_error == pytest.approx(once.standard_error)

    def test_bad_arguments(self):
        with pytest.raises(MetroFastError, match="same instructions x items"):
            paired_difference([[1, 0]], [[1, 0, 1]])
        with pytest.raises(MetroFastError, match="all items are of one group"):
            paired_difference([[1, 0]], [[1, 0]], groups=["a", "a"])
        with pytest.raises(MetroFastError, match="a spread needs at least 2"):
            std_difference([[1, 0]], [[1, 0]])

    def test_std_difference_is_paired(self):
        draw = np.random.default_rng(0)
        a = draw.random((6, 100)) < np.linspace(0.3, 0.8, 6)[:, None]
        same = std_difference(a, a)
        assert (same.mean, same.standard_error, tuple(same.interval)) == (0, 0, (0, 0))
        flat = np.tile(a[:1], (6, 1))
        got = std_difference(a, flat)
        assert got.mean == pytest.approx(-a.mean(1).std(ddof=1))
        assert got.interval.high < 0
