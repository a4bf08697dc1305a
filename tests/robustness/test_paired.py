"""Intervals of paired differences against published examples, likelihoods and simulation."""

import itertools

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from metro_fast.errors import MetroFastError
from metro_fast.robustness.paired import (
    bounded_mean_interval,
    exchange_p_value,
    paired_difference,
    tango_interval,
)
from metro_fast.robustness.statistics import mcnemar_exact


def score_by_likelihood(b: int, c: int, n: int, delta: float) -> float:
    """The score statistic at a difference, whose share is found by maximizing the likelihood."""

    def minus_likelihood(q: float) -> float:
        rest = 1 - 2 * q - delta
        terms = ((b, q), (c, q + delta), (n - b - c, rest))
        return -sum(k * np.log(max(p, 1e-300)) for k, p in terms if k)

    low, high = max(0.0, -delta), (1 - delta) / 2
    found = scipy.optimize.minimize_scalar(
        minus_likelihood, bounds=(low, high), method="bounded", options={"xatol": 1e-12}
    )
    q = found.x
    return (c - b - n * delta) / np.sqrt(n * (2 * q + delta * (1 - delta)))


class TestTango:
    def test_published_example(self):
        # Airway hyper-reactivity before and after a transplantation, in Tango's article.
        assert tuple(tango_interval(1, 7, 21)) == pytest.approx((0.026, 0.517), abs=6e-4)

    @settings(max_examples=40, deadline=None)
    @given(data=st.data(), n=st.integers(5, 300))
    def test_the_ends_are_where_the_score_is_z(self, data, n):
        b = data.draw(st.integers(0, n // 3))
        c = data.draw(st.integers(0, n // 3))
        low, high = tango_interval(b, c, n)
        assert -1 < low < (c - b) / n < high < 1
        assert score_by_likelihood(b, c, n, low) == pytest.approx(1.959964, abs=2e-3)
        assert score_by_likelihood(b, c, n, high) == pytest.approx(-1.959964, abs=2e-3)

    def test_without_discordant_items(self):
        # z^2 / (n + z^2), as Wilson's interval of no event.
        for n in (1, 2, 10, 1000):
            end = 1.959964**2 / (n + 1.959964**2)
            assert tuple(tango_interval(0, 0, n)) == pytest.approx((-end, end), abs=1e-6)

    def test_all_discordant(self):
        low, high = tango_interval(0, 8, 8)
        assert (0.3 < low < 1, high) == (True, 1.0)

    @pytest.mark.parametrize("n", [20, 200])
    def test_equality_at_the_margin_is_claimed_in_at_most_3_percent(self, n):
        # Exactly, over all counts: a loss of one point with 1 to 5 % of discordant items.
        for rate in (0.01, 0.03, 0.05):
            claimed = 0.0
            shares = ((rate + 0.01) / 2, (rate - 0.01) / 2)
            for b, c in itertools.product(range(30), repeat=2):
                low, high = tango_interval(b, c, n) if b + c <= n else (-1, 1)
                if low >= -0.01 and high <= 0.01:
                    claimed += scipy.stats.multinomial.pmf(
                        [b, c, n - b - c], n, [*shares, 1 - sum(shares)]
                    )
            assert claimed <= 0.03

    def test_bad_counts(self):
        for counts in ((-1, 0, 5), (3, 3, 5), (0, 0, 0)):
            with pytest.raises(MetroFastError, match="expected counts whose sum"):
                tango_interval(*counts)
        with pytest.raises(MetroFastError, match="confidence is 95"):
            tango_interval(1, 1, 9, confidence=95)


class TestBoundedMean:
    @pytest.mark.parametrize(("up", "n"), [(0, 30), (3, 30), (200, 400), (400, 400)])
    def test_two_values_have_clopper_pearsons(self, up, n):
        expected = scipy.stats.binomtest(up, n).proportion_ci(0.95, "exact")
        low, high = bounded_mean_interval([1.0] * up + [-1.0] * (n - up))
        width = 2 * (expected.high - expected.low)
        assert low == pytest.approx(2 * expected.low - 1, abs=0.03 * width)
        assert high == pytest.approx(2 * expected.high - 1, abs=0.03 * width)

    def test_large_samples_have_students(self):
        x = np.random.default_rng(0).uniform(-0.5, 0.7, 4000)
        half = 1.96 * x.std(ddof=1) / np.sqrt(4000)
        got = bounded_mean_interval(x)
        assert tuple(got) == pytest.approx((x.mean() - half, x.mean() + half), abs=0.1 * half)

    def test_order_repeats_and_signs(self):
        x = np.random.default_rng(1).integers(-3, 4, 60) / 8
        got = bounded_mean_interval(x)
        assert bounded_mean_interval(x[::-1]) == got
        low, high = bounded_mean_interval(-x)
        assert (-high, -low) == pytest.approx(tuple(got), abs=0.03)

    def test_values_beyond_the_bound_are_the_bound(self):
        assert bounded_mean_interval([0.0, 3.0]) == bounded_mean_interval([0.0, 3.0], bound=3)

    def test_bad_arguments(self):
        for bound in (0.0, -1.0, float("nan"), float("inf")):
            with pytest.raises(MetroFastError, match="expected a positive number"):
                bounded_mean_interval([0.0], bound=bound)


class TestPairedDifference:
    @given(a=st.lists(st.booleans(), min_size=2, max_size=30), data=st.data())
    def test_mean_and_standard_error_are_those_of_the_paired_test(self, a, data):
        b = data.draw(st.lists(st.booleans(), min_size=len(a), max_size=len(a)))
        got = paired_difference([a], [b])
        d = np.array(b, float) - np.array(a, float)
        assert got.mean == pytest.approx(d.mean())
        assert got.standard_error == pytest.approx(scipy.stats.sem(d), abs=1e-12)
        only_first, only_second = int((d < 0).sum()), int((d > 0).sum())
        assert got.interval == tango_interval(only_first, only_second, len(d))

    def test_several_instructions_count_as_fixed(self):
        a, b = np.random.default_rng(0).random((2, 5, 200)) < 0.6
        got, d = paired_difference(a, b), (b.astype(float) - a).mean(0)
        assert got.standard_error == pytest.approx(scipy.stats.sem(d))
        assert got.interval == bounded_mean_interval(d)

    def test_groups_have_the_clustered_standard_error(self):
        # Miller, arXiv 2411.00640: all products of residuals within a group; G/(G-1) beside it.
        draw = np.random.default_rng(0)
        a, b = draw.random((2, 1, 60)) < 0.5
        groups = [str(i % 7) for i in range(60)]
        d = b[0].astype(float) - a[0]
        e = d - d.mean()
        total = sum(e[i] * e[k] for i in range(60) for k in range(60) if groups[i] == groups[k])
        expected = np.sqrt(7 / 6 * total) / 60
        got = paired_difference(a, b, groups=groups)
        assert got.standard_error == pytest.approx(expected)
        half = scipy.stats.t.ppf(0.975, 6) * expected
        assert got.interval.low == pytest.approx(
            min(d.mean() - half, tango_interval((d < 0).sum(), (d > 0).sum(), 60).low)
        )

    def test_repeated_items_are_worth_one(self):
        a, b = np.random.default_rng(0).random((2, 3, 30)) < 0.5
        groups = [str(i // 4) for i in range(120)]
        once = paired_difference(a, b)
        repeated = paired_difference(a.repeat(4, axis=1), b.repeat(4, axis=1), groups=groups)
        assert repeated.standard_error == pytest.approx(once.standard_error)

    def test_groups_without_any_difference_show_no_equality(self):
        same = np.ones((1, 60))
        low, high = paired_difference(same, same, groups=[str(i // 20) for i in range(60)]).interval
        assert (low, high) == pytest.approx(tuple(tango_interval(0, 0, 60)))

    def test_p_is_that_of_all_exchanges(self):
        a, b = np.random.default_rng(4).random((2, 3, 10)) < [[[0.7]], [[0.4]]]
        d = (b.astype(float) - a).mean(0)
        sums = np.array([np.dot(s, d) for s in itertools.product((1, -1), repeat=10)])
        expected = (np.abs(sums) >= abs(d.sum()) - 1e-9).mean()
        assert 0.001 < expected < 0.9
        near = 4 * np.sqrt(expected * (1 - expected) / 9999)
        assert exchange_p_value(a, b) == pytest.approx(expected, abs=near)
        # For one wording it is McNemar's test.
        one = mcnemar_exact(a[0], b[0]).p_value
        assert exchange_p_value(a[:1], b[:1]) == pytest.approx(one, abs=0.02)
        groups = [str(i // 4) for i in range(40)]
        again = exchange_p_value(a.repeat(4, axis=1), b.repeat(4, axis=1), groups=groups)
        assert again == pytest.approx(expected, abs=near)

    def test_bad_arguments(self):
        with pytest.raises(MetroFastError, match="same instructions x items"):
            paired_difference([[1, 0]], [[1, 0, 1]])
        with pytest.raises(MetroFastError, match="all items are of one group"):
            paired_difference([[1, 0]], [[1, 0]], groups=["a", "a"])
