"""The gap of seen and unseen wordings over several tasks that have the same wordings."""

import numpy as np
import pytest

from metro_fast.robustness.gap import seen_gap
from metro_fast.robustness.kind_gaps import joined_gap

SEEN = [True] * 6 + [False] * 6


def task(seed: int, items: int) -> tuple[np.ndarray, list[str]]:
    right = np.random.default_rng(seed).random((12, items)) < np.linspace(0.5, 0.7, 12)[:, None]
    return right.astype(float), [f"{i}" for i in range(items)]


def test_each_task_has_the_same_weight() -> None:
    (few, names), (many, others) = task(0, 40), task(1, 400)
    gap = joined_gap([few, many], SEEN, [names, others])
    apart = [seen_gap(each, SEEN).gap for each in (few, many)]
    assert gap.gap == pytest.approx(np.mean(apart))
    assert gap.interval.low < gap.gap < gap.interval.high


def test_a_single_task_has_its_own_gap() -> None:
    values, names = task(2, 60)
    assert joined_gap([values], SEEN, [names]) == seen_gap(values, SEEN, groups=names)


def test_a_task_that_is_asked_twice_is_not_more_evidence_about_wordings() -> None:
    values, names = task(3, 4000)  # so many items that the wordings are what is uncertain
    once, twice = (joined_gap([values] * k, SEEN, [names] * k) for k in (1, 2))
    widths = [gap.interval.high - gap.interval.low for gap in (once, twice)]
    assert twice.gap == pytest.approx(once.gap)
    assert widths[1] > 0.9 * widths[0]
