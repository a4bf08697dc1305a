"""Planning against simulated studies, and resampled intervals against scipy."""

import numpy as np
import pytest
import scipy.stats
from metric_coverage import models

from metro_fast.errors import MetroFastError
from metro_fast.robustness.gap import seen_gap
from metro_fast.robustness.planning import (
    Components,
    plan_budget,
    plan_precision,
    variance_components,
)
from metro_fast.robustness.resampled import resampled_interval
from metro_fast.scoring import METRICS, Answer


def table(draw, prompts, items, *, wording=0.05, size=1, side=None):
    rates = 0.55 + draw.normal(0, wording, prompts)
    if side is not None:
        rates += 0.05 * np.asarray(side)
    hard = draw.normal(0, 0.1, items // size).repeat(size)
    return draw.random((prompts, items)) < rates[:, None] + hard


class TestComponents:
    def test_they_are_found_again(self):
        draw = np.random.default_rng(0)
        found = np.array([variance_components(table(draw, 20, 200))[:3] for _ in range(60)])
        wording, item, both = found.mean(0)
        assert wording == pytest.approx(0.05**2, rel=0.1)
        assert item == pytest.approx(0.1**2, rel=0.15)
        assert wording + item + both == pytest.approx(0.55 * 0.45, rel=0.02)

    def test_the_half_width_is_that_of_the_gap_itself(self):
        draw, seen = np.random.default_rng(1), [True] * 10 + [False] * 10
        widths, planned = [], []
        for _ in range(40):
            x = table(draw, 20, 200, side=seen)
            ends = seen_gap(x, seen).interval
            widths.append((ends.high - ends.low) / 2)
            planned.append(variance_components(x, seen=seen).half_width(10, 200))
        # A plan pools the two sides' variances, and has a few more degrees than Welch's test.
        assert 0.93 < np.mean(planned) / np.mean(widths) < 1

    def test_groups_are_the_units(self):
        x = table(np.random.default_rng(2), 6, 40)
        groups = [str(i // 5) for i in range(200)]
        got, alone = variance_components(x.repeat(5, axis=1), groups=groups), variance_components(x)
        assert got[:3] == pytest.approx(alone[:3])
        assert got.half_width(6, 200) == pytest.approx(alone.half_width(6, 40))

    def test_bad_arguments(self):
        x = np.eye(4)
        with pytest.raises(MetroFastError, match="one independent item"):
            variance_components(x, groups=["a"] * 4)
        with pytest.raises(MetroFastError, match="3 seen flags for 4"):
            variance_components(x, seen=[True] * 3)
        with pytest.raises(MetroFastError, match="fewer than 2 instructions"):
            variance_components(x, seen=[True, False, False, False])
        with pytest.raises(MetroFastError, match="expected at least 2 and 2 groups"):
            variance_components(x).half_width(1, 10)


class TestPlans:
    def test_a_study_as_planned_is_as_precise_as_planned(self):
        draw = np.random.default_rng(3)
        pilot = variance_components(table(draw, 10, 100))
        plan = plan_precision(pilot, 0.025, wordings=10, items=100)
        assert (plan.wordings, plan.items) == (10 + plan.more_wordings, 100 + plan.more_items)
        means = [table(draw, plan.wordings, plan.items).mean() for _ in range(300)]
        # 95 % of studies are within the half width of the truth, which the pilot only estimates.
        assert np.mean(np.abs(np.array(means) - 0.55) <= 0.025) == pytest.approx(0.95, abs=0.06)

    def test_no_cheaper_plan_is_precise_enough(self):
        components = Components(0.002, 0.01, 0.2, 1, 1.0)
        plan = plan_precision(components, 0.03, wordings=2, items=10)
        for count in range(2, 201):
            fewer = (plan.answers - 1) // count
            assert fewer < 10 or components.half_width(count, fewer) > 0.03

    def test_enough_already(self):
        plan = plan_precision(Components(0, 0, 0.2, 1, 1.0), 0.1, wordings=20, items=500)
        assert (plan.more_wordings, plan.more_items) == (0, 0)

    def test_a_budget_goes_where_the_variance_is(self):
        wordings = plan_budget(Components(0.01, 0.0001, 0.2, 1, 1.0), 10_000)
        items = plan_budget(Components(0.0001, 0.05, 0.2, 1, 1.0), 10_000)
        assert wordings.wordings > 3 * items.wordings
        assert max(wordings.answers, items.answers) <= 10_000
        few = plan_budget(Components(0.01, 0.0001, 0.2, 2, 1.0), 10_000, most_wordings=8)
        assert (few.wordings, few.items, few.answers) == (8, 625, 10_000)

    def test_what_cannot_be_reached_is_an_error(self):
        with pytest.raises(MetroFastError, match="do not reach a half width"):
            plan_precision(Components(0.04, 0.1, 0.2, 1, 1.0), 0.001, wordings=2, items=10)
        with pytest.raises(MetroFastError, match="half_width is 2"):
            plan_precision(Components(0.04, 0.1, 0.2, 1, 1.0), 2, wordings=2, items=10)
        with pytest.raises(MetroFastError, match="do not allow 2 wordings of 2 items each"):
            plan_budget(Components(0.04, 0.1, 0.2, 1, 1.0), 3)


class TestResampled:
    @pytest.mark.parametrize("name", ["semeval_macro_f1", "token_f1"])
    def test_the_difference_of_two_equals_scipys(self, name):
        metric = METRICS[name]
        first, second = models(name, np.random.default_rng(5), 200, 2)

        def difference(values):
            return values[..., 1] - values[..., 0]

        got = resampled_interval(metric, [first, second], difference, resamples=5000)
        expected = scipy.stats.bootstrap(
            (np.arange(200),),
            lambda index, axis: metric.value(second[index].sum(-2))
            - metric.value(first[index].sum(-2)),
            n_resamples=5000, method="BCa", vectorized=True, batch=500,
            rng=np.random.default_rng(1),
        ).confidence_interval  # fmt: skip
        width = expected.high - expected.low
        assert tuple(got) == pytest.approx(tuple(expected), abs=0.06 * width)

    def test_groups(self):
        metric = METRICS["token_f1"]
        (parts,) = models("token_f1", np.random.default_rng(0), 40, 1)
        groups = [f"{i // 5:02d}" for i in range(200)]
        once = resampled_interval(metric, [parts], lambda v: v.mean(-1))
        got = resampled_interval(
            metric, [parts.repeat(5, axis=0)], lambda v: v.mean(-1), groups=groups
        )
        assert tuple(got) == pytest.approx(tuple(once))

    def test_resamples_that_do_not_differ_show_little(self):
        metric = METRICS["accuracy"]
        parts = metric.parts([Answer("", "", True)] * 100)
        got = resampled_interval(metric, [parts, parts], lambda v: v[..., 1] - v[..., 0])
        assert tuple(got) == pytest.approx((-0.0362, 0.0362), abs=1e-4)

    def test_bad_arguments(self):
        metric = METRICS["accuracy"]
        parts = metric.parts([Answer("", "", True)] * 3)
        for cells, keywords, message in (
            ([], {}, "expected .items, columns."),
            ([parts, parts[:2]], {}, "expected .items, columns."),
            ([parts], {"resamples": 9}, "resamples is 9"),
            ([parts], {"groups": ["a"] * 3}, "all items are of one group"),
            ([parts], {"confidence": 2}, "confidence is 2"),
        ):
            with pytest.raises(MetroFastError, match=message):
                resampled_interval(metric, cells, lambda v: v.mean(-1), **keywords)
