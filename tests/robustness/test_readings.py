"""Likelihood against generation on the same cells."""

import numpy as np
import pytest

from matrix_cases import matrix_report
from metro_fast.errors import MetroFastError
from metro_fast.robustness.paired import paired_difference
from metro_fast.robustness.readings import compare_readings
from metro_fast.robustness.spread import spread_difference


class TestReadings:
    def test_two_protocols_of_one_model(self):
        draw = np.random.default_rng(0)
        scored = draw.random((6, 200)) < 0.7
        written = draw.random((6, 200)) < np.linspace(0.3, 0.8, 6)[:, None]
        got = compare_readings(matrix_report(scored), matrix_report(written, preset="t0"), "cases")
        assert got.difference == paired_difference(scored, written)
        assert got.spread == spread_difference(scored, written)
        assert got.agreement == pytest.approx((scored == written).mean())
        assert (got.first_preset, got.second_preset) == ("metro_t0", "t0")
        assert (got.first_unread, got.second_unread, got.item_count) == (0, 0, 200)
        assert got.spread.interval.low > 0
        assert min(got.instructions, key=lambda row: row.difference).instruction_id == "w0"

    def test_what_is_no_pair_of_readings_is_refused(self):
        x = np.random.default_rng(0).random((3, 40)) < 0.7
        report = matrix_report(x)
        for other, message in (
            (matrix_report(x), "both reports have the protocol 'metro_t0'"),
            (matrix_report(x, model="other", preset="t0"), "are different models"),
            (matrix_report(x[:, :30], preset="t0"), "items_hash differs"),
            (matrix_report(x[:2], preset="t0"), "only one of the two has the instructions w2"),
        ):
            with pytest.raises(MetroFastError, match=message):
                compare_readings(report, other, "cases")
