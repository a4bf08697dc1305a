"""ExpertPool interrupted at every step: no wrong weights, and nothing that others wait for."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from interrupted_pools import Case
from interruptions import Injection, Stop

ERRORS = (KeyboardInterrupt, MemoryError, Stop)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("experts"))


def attack(case: Case, number: int, steps: int | None) -> tuple[int, list[str]]:
    """Interrupt one sequence at every event, or at about `steps` of them.

    Returns:
        How many exceptions were raised, and what was wrong after any of them.
    """
    name, make, work = list(case.sequences())[number]
    pool = make()
    count = Injection(0)
    assert count.run(lambda: work(pool)) is None
    assert count.events > 1000
    raised, faults = 0, []
    for i, at in enumerate(range(1, count.events + 1, count.events // (steps or 10**9) or 1)):
        pool, one = make(), Injection(at, ERRORS[i % 3])
        # The exception is kept, and with it every frame that its traceback refers to.
        kept = one.run(lambda pool=pool: work(pool))
        raised += one.where is not None
        faults += [f"{name}, {one.where}: {fault}" for fault in case.faults(pool)]
        del kept
    return raised, faults


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # in destructors
@pytest.mark.parametrize("number", range(5))
def test_an_exception_at_any_step_leaves_the_pool_right(case: Case, number: int) -> None:
    raised, faults = attack(case, number, 300)
    assert faults == []
    assert raised >= 300


@pytest.mark.slow  # every event of every sequence: some 60,000 exceptions, 10 minutes
@pytest.mark.skipif("METRO_FAST_EVERY_STEP" not in os.environ, reason="set METRO_FAST_EVERY_STEP=1")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("number", range(5))
def test_an_exception_at_every_step_leaves_the_pool_right(
    case: Case, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    raised, faults = attack(case, number, None)
    with capsys.disabled():
        print(f"\nsequence {number}: {raised:,} exceptions, {len(faults)} faults", end="")
    assert faults == []


def test_signals_at_random_moments_leave_the_pool_right(case: Case) -> None:
    """Ctrl-C as it comes: 1,000 timers of up to 3 ms around swaps, drops and additions."""
    rng = random.Random(0)
    sequences = [each for each in case.sequences() if each[0] != "the first expert"]
    pools = {name: (make(), work) for name, make, work in sequences}
    stopped = 0
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for i in range(1000):
            name = sequences[i % len(sequences)][0]
            pool, work = pools[name]
            kept = None
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 3e-3))
                work(pool)
                time.sleep(0.004)
            except (KeyboardInterrupt, SystemError) as error:  # numpy's, where it opens a path
                kept = error
                stopped += 1
            except ValueError as error:  # names that an interrupted sequence left behind
                kept = error
                signal.setitimer(signal.ITIMER_REAL, 0)
            assert case.faults(pool) == [], name
            if name == "add, use, remove":
                pools[name] = (case.of_one(), work)
            del kept
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert stopped > 300


def test_names_keep_the_order_of_their_addition(tmp_path: Path) -> None:
    case = Case(tmp_path)
    pool = case.of_two()
    pool.add("c", case.experts["c"])
    pool.swap("c")
    pool.remove("a")
    pool.add("d", case.experts["d"])
    pool.add("a", case.experts["a"])
    assert pool.names == ("b", "c", "d", "a")
