"""ExpertPool in tasks of asyncio, in threads and in both: whose hold it is, and when it ends."""

import asyncio
import contextlib
import random
import signal
import threading
import time
from typing import Any

import pytest

from metro_fast import MetroFastError

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from interrupted_pools import Case, equal, weights
from metro_fast.experts import ExpertPool


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("experts"))


def free(pool: ExpertPool, name: str) -> bool:
    """Whether another thread can use an expert within a second."""
    thread = threading.Thread(target=pool.swap, args=(name,), daemon=True)
    thread.start()
    thread.join(1.0)
    return not thread.is_alive()


def test_a_hold_ends_with_its_own_task_and_not_with_another(case: Case) -> None:
    pool = case.of_two()
    order: list[str] = []

    async def long(entered: asyncio.Event, leave: asyncio.Event) -> None:
        with pool.use("b") as model:
            entered.set()
            await leave.wait()
            assert equal(weights(model), case.wanted["b"])
            order.append("long")

    async def short() -> None:
        with pool.use("b"):
            await asyncio.sleep(0)

    async def main() -> None:
        entered, leave = asyncio.Event(), asyncio.Event()
        first = asyncio.create_task(long(entered, leave))
        await entered.wait()
        await asyncio.create_task(short())
        other = asyncio.create_task(asyncio.to_thread(pool.swap, "a"))
        await asyncio.sleep(0.15)
        assert not other.done()  # the first task is inside still
        with pytest.raises(MetroFastError, match="another task of this event loop uses 'b'"):
            pool.swap("a")
        with pytest.raises(MetroFastError, match=r"another task of this event loop is inside"):
            pool.remove("a")
        pool.swap("b")  # enters beside the first, although a thread waits
        leave.set()
        await first
        await other
        order.append("other")

    asyncio.run(asyncio.wait_for(main(), 10))
    assert order == ["long", "other"]
    assert pool.resident == "a"


def test_a_task_started_inside_of_a_block_is_inside_of_it(case: Case) -> None:
    pool = case.of_two()

    async def main() -> None:
        with pool.use("b"):
            for call in (asyncio.to_thread(pool.swap, "a"), asyncio.to_thread(pool.remove, "a")):
                with pytest.raises(MetroFastError, match="the one that started it"):
                    await call
            await asyncio.to_thread(pool.swap, "b")
            late = asyncio.create_task(asyncio.sleep(0.01))
        await late
        await asyncio.to_thread(pool.swap, "a")

    asyncio.run(asyncio.wait_for(main(), 10))
    assert pool.resident == "a"


def test_cancelled_tasks_and_blocks_that_nobody_leaves_hold_nothing(case: Case) -> None:
    pool = case.of_two()
    kept: list[Any] = []

    async def inside() -> None:
        with pool.use("b"):
            await asyncio.sleep(60)

    async def forgets() -> None:
        pool.use("b").__enter__()

    async def main() -> None:
        task = asyncio.create_task(inside())
        await asyncio.sleep(0)
        task.cancel()
        kept.extend(await asyncio.gather(task, return_exceptions=True))  # with its traceback
        await asyncio.create_task(forgets())

    asyncio.run(asyncio.wait_for(main(), 10))
    assert isinstance(kept[0], asyncio.CancelledError)
    assert free(pool, "a")


def test_a_hold_may_be_released_elsewhere_than_it_was_taken(case: Case) -> None:
    """As a server does with a dependency that is a generator: in another task and thread."""
    pool = case.of_two()
    block = pool.use("b")
    thread = threading.Thread(target=block.__enter__)
    thread.start()
    thread.join()
    assert not free(pool, "a")
    with contextlib.ExitStack() as stack:
        stack.push(block)
    assert free(pool, "a")
    with pytest.raises(MetroFastError, match="this block was entered before"):
        block.__enter__()


def test_a_call_in_the_middle_of_another_is_an_error_and_not_a_wait_for_ever(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = case.of_two()
    decode = type(pool._adapter.decoder).decode

    def interrupted(*arguments: Any) -> None:
        signal.raise_signal(signal.SIGUSR1)
        decode(*arguments)

    monkeypatch.setattr(type(pool._adapter.decoder), "decode", interrupted)
    before = signal.signal(signal.SIGUSR1, lambda *_: pool.swap("a"))
    try:
        with pytest.raises(MetroFastError, match="in the middle of a swap"):
            pool.swap("b")
    finally:
        signal.signal(signal.SIGUSR1, before)
    monkeypatch.undo()
    assert free(pool, "b")


@pytest.mark.parametrize("seed", range(4))
def test_tasks_and_threads_together_see_the_expert_that_they_asked_for(
    case: Case, seed: int
) -> None:
    """Two event loops and four threads over a pool that drops experts; some tasks are cancelled.

    What must hold: inside of a block the weights are those of its expert from beginning to end; no
    two blocks of different experts overlap; everybody comes to an end.
    """
    pool = case.of_three_and_little_room()
    inside: list[str] = []
    faults: list[str] = []
    blocks = [0]

    def enter(name: str, model: Any) -> None:
        inside.append(name)
        blocks[0] += 1
        if {*inside} != {name} or not equal(weights(model), case.wanted[name]):
            faults.append(f"{name} among {inside}")

    def leave(name: str, model: Any) -> None:
        if not equal(weights(model), case.wanted[name]):
            faults.append(f"{name} was changed")
        inside.remove(name)

    def in_a_thread(number: int) -> None:
        rng = random.Random(100 * seed + number)
        for _ in range(25):
            name = rng.choice("abc")
            with pool.use(name) as model:
                enter(name, model)
                time.sleep(rng.choice([0, 0, 0.001]))
                if rng.random() < 0.3:
                    with pool.use(name):
                        pass
                leave(name, model)

    async def task(rng: random.Random) -> None:
        for _ in range(6):
            name = rng.choice("abc")
            try:
                with pool.use(name) as model:
                    enter(name, model)
                    try:
                        await asyncio.sleep(rng.choice([0, 0.001, 0.002]))
                    finally:
                        leave(name, model)
            except MetroFastError as error:
                if "another task of this event loop" not in str(error):
                    faults.append(str(error))
                await asyncio.sleep(0.001)

    async def tasks(number: int) -> None:
        rng = random.Random(100 * seed + number)
        running = [asyncio.create_task(task(rng)) for _ in range(8)]
        await asyncio.sleep(0.003)
        for each in rng.sample(running, 2):
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await asyncio.to_thread(in_a_thread, 50 + number)

    threads = [threading.Thread(target=in_a_thread, args=(i,), daemon=True) for i in range(4)]
    threads += [
        threading.Thread(target=lambda i=i: asyncio.run(tasks(i)), daemon=True) for i in (10, 11)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert faults == []
    assert inside == []
    assert blocks[0] > 150
    assert case.faults(pool) == []
