"""Two processes that share an evaluation write what one writes."""

import re
from pathlib import Path

import pytest

from evaluate_cases import contents, make_tasks, rank, rank_with_tasks_of_its_own
from metro_fast.robustness.ranks import shares
from warm_processes import run_ranks


@pytest.fixture
def model(tmp_path: Path, tiny_t5, tiny_tokenizer) -> Path:
    for part in (tiny_t5, tiny_tokenizer):
        part.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def asked(folder: Path) -> list[list[str]]:
    return [path.read_text().split() for path in sorted(folder.glob("asked*.txt"))]


@pytest.mark.slow  # five processes load a model
def test_two_ranks_write_the_files_of_one(model, tmp_path):
    for count in (1, 2):
        logs = tmp_path / f"logs{count}"
        logs.mkdir()
        run_ranks(count, rank, model, tmp_path / f"by{count}", logs, folder=logs)
    expected = contents(tmp_path / "by1")
    assert contents(tmp_path / "by2") == expected
    assert sum(name.startswith("cells/") for name in expected) == 48
    (alone,), shared = asked(tmp_path / "logs1"), asked(tmp_path / "logs2")
    assert len(alone) == 48
    assert [len(names) > 10 for names in shared] == [True, True]
    assert sorted(shared[0] + shared[1]) == sorted(alone)

    # What is missing is shared again, and the rest is not asked.
    folder, logs = tmp_path / "by2", tmp_path / "logs"
    logs.mkdir()
    (folder / "results_tiny_metro_t0.json").unlink()
    gone = sorted(folder.glob("cells/*/*/*.gz"))[::4]
    for path in gone:
        path.unlink()
    run_ranks(2, rank, model, folder, logs, folder=logs)
    assert contents(folder) == expected
    cells = sorted(re.sub(r"-[0-9a-f]{16}\.jsonl\.gz", "", path.name) for path in gone)
    assert sorted(name for names in asked(logs) for name in names) == cells


@pytest.mark.slow  # two processes load a model
def test_ranks_with_different_tasks_are_refused(model, tmp_path):
    run_ranks(2, rank_with_tasks_of_its_own, model, tmp_path / "out", tmp_path, folder=tmp_path)
    for number in (0, 1):
        message = (tmp_path / f"error{number}.txt").read_text()
        assert "were given different models, tasks, instructions or protocols" in message
    assert not (tmp_path / "asked.txt").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_every_cell_has_one_rank_and_the_work_is_even(size):
    costs = [len(task) * (1 + n % 5) for task in make_tasks() for n in range(12)]
    found = shares(costs, size)
    assert sorted(i for part in found for i in part) == list(range(len(costs)))
    loads = [sum(costs[i] for i in part) for part in found]
    assert max(loads) - min(loads) <= max(costs)
