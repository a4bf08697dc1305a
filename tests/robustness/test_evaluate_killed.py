"""An evaluation that is killed again and again ends as an unbroken one."""

import random
import re
import time
from pathlib import Path

import pytest

from evaluate_cases import contents, run
from metro_fast.robustness import recompute
from warm_processes import kill, start


def finished(folder: Path) -> set[str]:
    found = folder.glob("cells/*/*/*.jsonl.gz")
    return {re.sub(r"-[0-9a-f]{16}\.jsonl\.gz", "", path.name) for path in found}


def lines(log: Path) -> list[str]:
    return log.read_text().split() if log.exists() else []


@pytest.mark.slow  # twelve processes load a model
def test_killed_at_ten_random_points(tmp_path, tiny_t5, tiny_tokenizer):
    model, errors = tmp_path / "model", tmp_path / "errors.txt"
    for part in (tiny_t5, tiny_tokenizer):
        part.save_pretrained(model)
    unbroken = start(run, model, tmp_path / "unbroken", tmp_path / "unbroken.txt", errors=errors)

    folder, draw, asked, kills = tmp_path / "broken", random.Random(0), [], 0
    while kills < 10:
        before, log = finished(folder), tmp_path / f"asked{kills}.txt"
        process = start(run, model, folder, log, errors=errors)
        # Within or just after the first to fifth cell, or before any.
        wanted, end = draw.randrange(5), time.monotonic() + 60
        while len(lines(log)) < wanted and process.is_alive():
            assert time.monotonic() < end, errors.read_text()[-3000:]
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.02))
        kill(process)
        assert process.exitcode == -9, errors.read_text()[-3000:]
        kills += 1
        assert not before & set(lines(log))
        assert not list(folder.glob("results_*.json"))
        asked += lines(log)
    before, log = finished(folder), tmp_path / "last.txt"
    assert 10 <= len(before) < 48
    process = start(run, model, folder, log, errors=errors)
    for each in (process, unbroken):
        each.join(100)
        assert each.exitcode == 0, errors.read_text()[-3000:]
    assert not before & set(lines(log))
    assert len(before) + len(lines(log)) == 48
    # A kill costs the one cell that was being asked.
    assert 48 <= len(asked) + len(lines(log)) <= 48 + kills
    expected = contents(tmp_path / "unbroken")
    assert contents(folder) == expected
    assert len([name for name in expected if name.startswith("cells/")]) == 48
    recompute(folder)
    assert contents(folder) == expected
