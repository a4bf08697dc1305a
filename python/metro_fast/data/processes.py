"""Worker processes that end with the process that started them, however it ends."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any

from metro_fast.errors import MetroFastError

_call: Callable[[int], None]


def run_in_processes(packed: bytes, count: int, workers: int) -> None:
    """Call a function with 0 to `count - 1`, in new processes.

    When the caller is interrupted, fails or is killed (SIGKILL too), the workers end at once: each
    watches a pipe whose other end this process alone holds.

    Args:
        packed: The function, as dill writes it.
        count: Number of calls.
        workers: Number of processes.

    Raises:
        MetroFastError: If a worker is killed.
        Exception: What a call raised first.
    """
    # Spawned, since a fork would copy the pipe's other end, and the threads that torch has started.
    context = multiprocessing.get_context("spawn")
    watched, held = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, context, initializer=_start, initargs=(watched, packed))
    try:
        done = wait([pool.submit(_run, i) for i in range(count)], return_when=FIRST_EXCEPTION).done
        for future in done:
            future.result()
        pool.shutdown()
    except BrokenProcessPool as error:
        raise MetroFastError(
            "a worker process was killed, perhaps for want of memory: run again to go on where it "
            f"stopped, with fewer than {workers} workers or smaller piece_bytes"
        ) from error
    finally:
        held.close()  # whoever still works ends here
        pool.shutdown(cancel_futures=True)
        watched.close()


def _start(watched: Connection, packed: bytes) -> None:
    """Make a worker ready: it leaves Ctrl-C to its parent, and follows it."""
    global _call
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_follow, args=(watched,), daemon=True).start()
    # As many processes as cores are at work already.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import dill  # type: ignore[import-untyped]

    _call = dill.loads(packed)


def _follow(watched: Connection) -> None:
    watched.poll(None)  # until the other end is closed: nothing is ever written to it
    os._exit(1)


def _run(index: int) -> Any:
    return _call(index)
