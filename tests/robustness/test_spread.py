"""Sigma over wordings and its difference, against formulas, scipy and simulation."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from metro_fast.errors import MetroFastError
from metro_fast.robustness.spread import spread_difference, wording_spread

MATRICES = st.tuples(st.integers(2, 6), st.integers(2, 12)).flatmap(
    lambda shape: arrays(np.int64, shape, elements=st.integers(0, 1))
)


def drawn(draw, levels, items, item_sd=0.15):
    """Answers under wordings of these levels, on items that differ in difficulty."""
    hard = draw.normal(0, item_sd, items)
    return draw.random((len(levels), items)) < np.clip(np.add.outer(levels, hard), 0.01, 0.99)


class TestSpread:
    def test_worked_example(self):
        # Means .5, .75, .25 over 4 items; grand mean .5; item means 1, 2/3, 1/3, 0.
        got = wording_spread([[1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0]])
        assert got.raw == pytest.approx(0.25)
        # Total SS = 3, items 5/3, instructions .5; the rest over 6 degrees is .8333/6.
        residual = (3 - 5 / 3 - 0.5) / 6
        assert got.noise == pytest.approx(np.sqrt(residual / 4))
        assert got.sigma == pytest.approx(np.sqrt((0.25 - residual) / 4))

    @given(c=MATRICES)
    def test_the_ends_are_those_of_an_analysis_of_variance(self, c):
        got = wording_spread(c)
        prompts, items = c.shape
        total = ((c - c.mean()) ** 2).sum()
        by_prompt = items * ((c.mean(1) - c.mean()) ** 2).sum()
        by_item = prompts * ((c.mean(0) - c.mean()) ** 2).sum()
        degrees = prompts - 1, (prompts - 1) * (items - 1)
        square = (total - by_prompt - by_item) / degrees[1]
        assert items * got.noise**2 == pytest.approx(square, abs=1e-12)
        assert got.raw == pytest.approx(c.mean(1).std(ddof=1))
        assert got.interval.low <= got.interval.high
        if square < 1e-9:
            return
        ratio = by_prompt / degrees[0] / square
        for end, level in zip(got.interval, (0.975, 0.025), strict=True):
            expected = ratio / scipy.stats.f.ppf(level, *degrees) - 1
            assert end == pytest.approx(np.sqrt(max(0, expected) * square / items), abs=1e-9)

    def test_twenty_interchangeable_instructions_at_100_items(self):
        draw = np.random.default_rng(1)
        found = [wording_spread(drawn(draw, np.full(20, 0.6), 100)) for _ in range(200)]
        raw = np.sqrt(np.mean([s.raw**2 for s in found]))
        noise = np.sqrt(np.mean([s.noise**2 for s in found]))
        assert raw == pytest.approx(noise, rel=0.03)
        assert np.median([s.sigma for s in found]) < 0.012
        assert np.mean([s.interval.low == 0 for s in found]) >= 0.95

    @pytest.mark.parametrize(("prompts", "items", "size"), [(5, 80, 1), (10, 200, 4)])
    def test_the_interval_covers_the_truth(self, prompts, items, size):
        # benches/robustness_statistics.py has eight settings of 200 runs.
        draw, groups = np.random.default_rng(2), [str(i // size) for i in range(items)]
        covered = 0
        for _ in range(120):
            levels = draw.normal(0.55, 0.06, prompts)
            own = draw.normal(0, 0.15 * (size > 1), (prompts, items // size)).repeat(size, axis=1)
            c = draw.random((prompts, items)) < np.clip(levels[:, None] + own, 0.01, 0.99)
            low, high = wording_spread(c, groups=groups).interval
            covered += low <= 0.06 <= high
        assert covered >= 108

    def test_groups_are_the_units(self):
        c = np.random.default_rng(0).random((5, 40)) < np.linspace(0.4, 0.7, 5)[:, None]
        groups = [str(i // 6) for i in range(240)]
        got, alone = wording_spread(c.repeat(6, axis=1), groups=groups), wording_spread(c)
        assert (got.sigma, got.raw, got.noise, *got.interval) == pytest.approx(
            (alone.sigma, alone.raw, alone.noise, *alone.interval)
        )

    def test_no_noise_at_all_shows_little_with_few_items(self):
        # At 100 items, an effect on 3.6 % of them may have been missed: 1 - .025^(1/100).
        spread = wording_spread(np.ones((2, 100)))
        assert (spread.sigma, spread.noise, spread.interval.low) == (0, 0, 0)
        assert spread.interval.high == pytest.approx(0.0362 / 2 * np.sqrt(2), abs=1e-4)

    def test_bad_arguments(self):
        for x in ([[1, 0]], [[1], [0]]):
            with pytest.raises(MetroFastError, match="a spread needs at least 2 of each"):
                wording_spread(x)
        with pytest.raises(MetroFastError, match="2 instructions and 1 independent items"):
            wording_spread([[1, 0], [0, 1]], groups=["a", "a"])
        with pytest.raises(MetroFastError, match="confidence is 1"):
            wording_spread([[1, 0], [0, 1]], confidence=1)


class TestSpreadDifference:
    def test_a_model_against_itself(self):
        c = drawn(np.random.default_rng(0), np.linspace(0.3, 0.8, 6), 400)
        got = spread_difference(c, c)
        assert got.difference == 0
        assert got.interval.low <= 0 <= got.interval.high
        assert got.interval.high < 0.01

    def test_a_spread_that_went_is_found(self):
        draw = np.random.default_rng(0)
        c = drawn(draw, np.linspace(0.2, 0.8, 8), 400)
        flat = drawn(draw, np.full(8, 0.5), 400)
        got = spread_difference(c, flat)
        expected = wording_spread(flat).sigma - wording_spread(c).sigma
        assert got.difference == pytest.approx(expected)
        assert got.interval.high < 0
        low, high = spread_difference(flat, c).interval
        assert (-high, -low) == pytest.approx(tuple(got.interval))

    def test_the_interval_covers_the_truth(self):
        draw, covered = np.random.default_rng(3), 0
        for _ in range(100):
            shared = draw.normal(0, 1, 10)
            first = drawn(draw, 0.6 + 0.04 * shared, 200)
            second = drawn(draw, 0.6 + 0.08 * shared, 200)
            low, high = spread_difference(first, second).interval
            covered += low <= 0.04 <= high
        assert covered >= 90

    def test_bad_arguments(self):
        with pytest.raises(MetroFastError, match="same instructions x items"):
            spread_difference([[1, 0], [0, 1]], [[1, 0]])
