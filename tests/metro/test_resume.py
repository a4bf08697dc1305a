"""SIGKILL at random points of a training: repeated steps are equal, and no step is left out.

`METRO_FAST_KILLS=20 pytest tests/metro/test_resume.py -s` kills each configuration 20 times; the
suite does it twice.
"""

import os
import random
import time

import numpy as np
import pytest

import resume_case
from metro_fast.data import write_corpus
from warm_processes import kill, start

KILLS = int(os.environ.get("METRO_FAST_KILLS", "2"))
SEED = int(os.environ.get("METRO_FAST_KILL_SEED", str(time.time_ns() % 2**32)))
STEPS = 20 + 10 * KILLS


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """About 25 steps per epoch, so that kills fall into several epochs."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    write_corpus(folder, [rng.integers(4, 500, rng.integers(2, 80)) for _ in range(150)])
    return folder


def read_log(folder):
    """Pairs of step and digest, without a last line that a kill has cut short."""
    path = folder / "log.txt"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    whole = [line.split() for line in lines if line.endswith("\n")]
    return [(int(step), digest) for step, digest in whole]


def kill_at(processes, folders, step, delay, timeout=120):
    """Kill all ranks shortly after one of them has logged a step; False if all ended before."""
    limit = time.monotonic() + timeout
    while time.monotonic() < limit:
        if all(process.exitcode is not None for process in processes):
            return False
        if any(log and log[-1][0] >= step for log in map(read_log, folders)):
            time.sleep(delay)  # into the next batch, the next save or the gap between them
            for process in processes:
                kill(process)
            return True
        time.sleep(0.002)
    raise TimeoutError(f"no rank came to step {step} in {timeout} s")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world_size", [1, 2])
def test_killed_trainings_continue_bit_for_bit(corpus, tmp_path, world_size, workers):
    seed = SEED + 10 * world_size + workers
    chance = random.Random(seed)
    print(f"\n{world_size} ranks, {workers} workers, {STEPS} steps, seed {SEED}")
    folders = [tmp_path / f"rank{rank}" for rank in range(world_size)]
    unbroken = [tmp_path / f"unbroken{rank}" for rank in range(world_size)]
    for folder in folders + unbroken:
        folder.mkdir()
    for rank, folder in enumerate(unbroken):
        resume_case.main(corpus, folder, rank, world_size, 0, STEPS)
    kills = []
    while not all((folder / "done").exists() for folder in folders):
        processes = [
            start(
                resume_case.main,
                *(corpus, folder, rank, world_size, workers, STEPS),
                errors=folder / "errors.txt",
            )
            for rank, folder in enumerate(folders)
        ]
        # The kills are spread over the steps.
        step = (len(kills) + chance.random()) * STEPS / (KILLS + 1)
        if len(kills) == KILLS:
            for process, folder in zip(processes, folders, strict=True):
                process.join(120)
                assert process.exitcode == 0, (folder / "errors.txt").read_text()
        elif kill_at(processes, folders, int(step), chance.random() * 0.02):
            kills.append(int(step))
            for folder in folders:  # the log's last line may be cut short, as in any file
                cut = "".join(f"{step} {digest}\n" for step, digest in read_log(folder))
                (folder / "log.txt").write_text(cut)
    redone = 0
    for folder, whole in zip(folders, unbroken, strict=True):
        expected = dict(read_log(whole))
        log = read_log(folder)
        assert set(dict(log)) == set(expected) == set(range(STEPS))
        assert [line for line in log if expected[line[0]] != line[1]] == []
        redone += len(log) - STEPS
        totals = [(path / "state.json").read_text() for path in (folder, whole)]
        assert totals[0] == totals[1], "the model: a sum of the batches"
    print(f"killed {len(kills)} times after steps {kills}; {redone} steps done again, all alike")
    assert len(kills) == KILLS
