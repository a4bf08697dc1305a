"""Statistics against scipy, values worked by hand and simulation."""

from itertools import combinations, permutations, product

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from metro_fast.errors import MetroFastError
from metro_fast.robustness.agreement import consistency_rate, flip_rates, majority_share
from metro_fast.robustness.cochran import cochran_q
from metro_fast.robustness.gap import seen_gap
from metro_fast.robustness.paired import bounded_mean_interval, paired_difference
from metro_fast.robustness.spread import spread_difference, wording_spread
from metro_fast.robustness.statistics import (
    as_values,
    holm,
    mcnemar_exact,
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

    def test_groups_are_the_blocks(self):
        c = np.random.default_rng(0).random((4, 240)) < 0.6
        groups = [f"passage {i // 6}" for i in range(240)]
        sums = c.reshape(4, 40, 6).sum(2)
        assert cochran_q(c, groups=groups) == pytest.approx(cochran_q(sums))
        # Items that are given six times are worth one.
        assert cochran_q(c.repeat(6, axis=1), groups=[str(i // 6) for i in range(1440)]) == (
            pytest.approx(cochran_q(c))
        )

    def test_few_groups_are_exchanged(self):
        # All 6^3 = 216 exchanges of three instructions within three groups, one by one.
        c = np.array([[1, 1, 1, 1, 0, 1], [0, 1, 0, 1, 0, 0], [0, 0, 1, 0, 0, 1]])
        blocks = c.reshape(3, 3, 2).sum(2).T

        def square(exchange):
            sums = sum(block[list(order)] for block, order in zip(blocks, exchange, strict=True))
            return ((sums - sums.mean()) ** 2).sum()

        squares = np.array([square(e) for e in product(permutations(range(3)), repeat=3)])
        expected = (squares >= square([(0, 1, 2)] * 3) - 1e-9).mean()
        got = cochran_q(c, groups=["a", "a", "b", "b", "c", "c"]).p_value
        assert 0.01 < expected < 0.5
        assert got == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 4999))

    @pytest.mark.parametrize("size", [5, 20])
    def test_groups_that_go_together_are_not_rejected(self, size):
        # The wording matters to a whole passage, and in no direction: 65 % at 20 without groups.
        draw, groups = np.random.default_rng(0), [str(i // size) for i in range(10 * size)]
        values = []
        for run in range(150):
            level = draw.beta(1, 1, (8, 10)).repeat(size, axis=1)
            c = draw.random(level.shape) < level
            values.append(cochran_q(c, groups=groups, seed=run).p_value)
        assert np.mean(np.array(values) <= 0.05) <= 0.1
        assert scipy.stats.kstest(values, "uniform").pvalue > 0.001


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
            wording_spread,
            cochran_q,
            lambda x: bounded_mean_interval(x[0]),
            lambda x: seen_gap(x, [True, False]),
            lambda x: paired_difference(x, x),
            lambda x: spread_difference(x, x),
        ],
    )
    def test_every_statistic_takes_numbers_and_refuses_nan(self, use):
        use([[0.5, 1.5, -0.2], [0.25, 0.0, 1]])
        with pytest.raises(MetroFastError, match="NaN or infinite"):
            use([[0.5, 1.5, float("nan")], [0.25, 0.0, 1]])


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
