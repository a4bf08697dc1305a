"""The sections of the page against numbers that are computed here."""

import csv
import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from matrix_cases import matrix_report
from metro_fast.robustness import write_page

SEEN = [True] * 5 + [False] * 5


def numbers(page: str, name: str) -> list[dict[str, str]]:
    """The rows of the CSV link of a picture."""
    link = re.search(rf'download="{name}\.csv" href="data:text/csv[^,]*,([^"]*)"', page)
    assert link is not None, re.findall(r'download="[^"]*"', page)
    return list(csv.DictReader(unquote(link[1]).splitlines()))


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(0)


def test_likelihood_against_generation(draw: np.random.Generator, tmp_path: Path) -> None:
    scored, written = draw.random((6, 200)) < 0.8, draw.random((6, 200)) < 0.5
    reports = [matrix_report(scored), matrix_report(written, preset="t0")]
    page = write_page(tmp_path / "page.html", reports).read_text("utf-8")
    (row,) = numbers(page, "readings")
    assert float(row["difference"]) == pytest.approx(100 * (written.mean() - scored.mean()))
    assert float(row["same answer"]) == pytest.approx((scored == written).mean())
    assert float(row["low"]) < float(row["difference"]) < float(row["high"])
    assert "Likelihood against generation" in page
    assert f"agree on {100 * (scored == written).mean():.1f}" in page


def test_one_reading_has_no_such_section(draw: np.random.Generator, tmp_path: Path) -> None:
    report = matrix_report(draw.random((6, 100)) < 0.8)
    page = write_page(tmp_path / "page.html", [report]).read_text("utf-8")
    assert "Likelihood against generation" not in page


def test_seen_against_unseen(draw: np.random.Generator, tmp_path: Path) -> None:
    right = draw.random((10, 200)) < np.where(SEEN, 0.8, 0.5)[:, None]
    page = write_page(tmp_path / "page.html", [matrix_report(right, seen=SEEN)]).read_text("utf-8")
    (row,) = numbers(page, "seen-unseen")
    means = right.mean(1)
    assert float(row["gap"]) == pytest.approx(100 * (means[:5].mean() - means[5:].mean()))
    assert 0 < float(row["low"]) < float(row["gap"]) < float(row["high"])
    assert (row["seen"], row["unseen"]) == ("5", "5")
