"""The gap of seen and unseen instructions against scipy, a slow second way and simulation."""

import numpy as np
import pytest
import scipy.stats

from metro_fast.errors import MetroFastError
from metro_fast.robustness.gap import seen_gap


class TestSeenGap:
    def test_few_instructions_give_no_test(self):
        draw = np.random.default_rng(0)
        got = seen_gap(draw.random((8, 50)) < 0.5, [True] * 4 + [False] * 4)
        assert got.p_value is None
        assert "fewer than 5 per side, so there is an interval, but no test" in got.note

    def test_items_that_do_not_matter_leave_welchs_test(self):
        draw = np.random.default_rng(1)
        seen, unseen = draw.normal(0.6, 0.1, 7), draw.normal(0.5, 0.03, 9)
        values = np.concatenate([seen, unseen])[:, None].repeat(50, axis=1)
        got = seen_gap(values, [True] * 7 + [False] * 9)
        expected = scipy.stats.ttest_ind(seen, unseen, equal_var=False)
        assert got.p_value == pytest.approx(expected.pvalue)
        assert got.degrees_of_freedom == pytest.approx(expected.df)
        assert tuple(got.interval) == pytest.approx(tuple(expected.confidence_interval()))

    def test_one_instruction_a_side_is_the_paired_test_over_items(self):
        a, b = np.random.default_rng(2).random((2, 80)) < [[0.7], [0.5]]
        got = seen_gap([a, b], [True, False])
        expected = scipy.stats.ttest_rel(a.astype(float), b.astype(float))
        assert tuple(got.interval) == pytest.approx(tuple(expected.confidence_interval()))
        assert "says nothing about other wordings" in got.note

    def test_the_variance_by_sums_over_pairs(self):
        # Var = sum S²/P + S²_d/N - sum MS/(NP), each part by its definition.
        draw = np.random.default_rng(3)
        x = draw.random((11, 40)) < draw.uniform(0.3, 0.8, (11, 1))
        seen = [True] * 5 + [False] * 6
        total, items = 0.0, 40
        for side in (x[:5], x[5:]):
            prompts, means = len(side), [row.mean() for row in side]
            total += scipy.stats.tvar(means) / prompts
            residual = sum(
                (side[p, i] - means[p] - side[:, i].mean() + side.mean()) ** 2
                for p in range(prompts)
                for i in range(items)
            )
            total -= residual / ((prompts - 1) * (items - 1)) / prompts / items
        own = [x[:5, i].mean() - x[5:, i].mean() for i in range(items)]
        total += scipy.stats.tvar(own) / items
        assert seen_gap(x, seen).standard_error == pytest.approx(np.sqrt(total))

    def test_interval_and_p_agree(self):
        draw = np.random.default_rng(4)
        for _ in range(60):
            x = draw.random((12, 50)) < draw.uniform(0.45, 0.65, (12, 1))
            got = seen_gap(x, [True] * 6 + [False] * 6)
            assert (got.p_value < 0.05) == (not got.interval.low <= 0 <= got.interval.high)

    @pytest.mark.parametrize(
        ("side", "effect", "items"), [(8, 0.06, 80), (8, 0.15, 80), (4, 0.15, 100), (20, 0.03, 100)]
    )
    def test_interval_covers_the_truth(self, side, effect, items):
        # benches/robustness_statistics.py has more settings and runs.
        draw, seen = np.random.default_rng(5), np.arange(2 * side) < side
        covered = 0
        for _ in range(150):
            rates = 0.55 + effect * draw.standard_normal(2 * side) + 0.1 * seen
            c = draw.random((2 * side, items)) < rates.clip(0.02, 0.98)[:, None]
            low, high = seen_gap(c, seen).interval
            covered += low <= 0.1 <= high
        assert covered >= 135

    def test_groups_are_the_units(self):
        draw, groups = np.random.default_rng(3), [f"passage {i // 5}" for i in range(100)]
        whole = draw.random((12, 20)) < 0.5
        seen = [True] * 6 + [False] * 6
        grouped = seen_gap(whole.repeat(5, axis=1), seen, groups=groups)
        once = seen_gap(whole, seen)
        assert (grouped.gap, *grouped.interval) == pytest.approx((once.gap, *once.interval))
        alone = seen_gap(whole.repeat(5, axis=1), seen)
        assert alone.standard_error < grouped.standard_error

    def test_effect_size(self):
        got = seen_gap([[1, 1, 1, 0], [1, 0, 0, 0]], [True, False])
        assert got.effect_size == pytest.approx(2 * np.arcsin(0.75**0.5) - 2 * np.arcsin(0.5))

    def test_without_any_variance(self):
        seen = [True] * 5 + [False] * 5
        same = seen_gap(np.ones((10, 20)), seen)
        assert (same.gap, tuple(same.interval), same.p_value) == (0, (0, 0), 1)

    def test_bad_arguments(self):
        c = [[1, 0], [0, 1]]
        with pytest.raises(MetroFastError, match="all are of one kind"):
            seen_gap(c, [True, True])
        with pytest.raises(MetroFastError, match="3 seen flags for 2 instructions"):
            seen_gap(c, [True, False, True])
        with pytest.raises(MetroFastError, match="1 groups for 2 items"):
            seen_gap(c, [True, False], groups=["a"])
        with pytest.raises(MetroFastError, match="one independent item"):
            seen_gap(c, [True, False], groups=["a", "a"])
        with pytest.raises(MetroFastError, match="confidence is 95"):
            seen_gap(c, [True, False], confidence=95)
