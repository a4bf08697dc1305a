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

    When the caller is interrupted, fails or is killed (even by SIGKILL), the workers end at once.
    Each watches a pipe whose other end only this process holds.

    Args:
        packed: The function, serialized by dill.
        count: Number of calls.
        workers: Number of processes.

    Raises:
        MetroFastError: If a worker is killed.
        Exception: The first exception of a call.
    """
    # Spawned, because a fork would copy the other end of the pipe and torch's threads.
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
            "a worker process was killed, perhaps because memory ran out: run again to resume, "
            f"with fewer than {workers} workers or a smaller piece_bytes"
        ) from error
    finally:
        held.close()  # this ends the workers that are still running
        pool.shutdown(cancel_futures=True)
        watched.close()


def _start(watched: Connection, packed: bytes) -> None:
    """Prepare a worker, which ignores Ctrl-C and ends with its parent."""
    global _call
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_follow, args=(watched,), daemon=True).start()
    # There are already as many processes as cores.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import dill  # type: ignore[import-untyped]

    _call = dill.loads(packed)


def _follow(watched: Connection) -> None:
    watched.poll(None)  # returns when the other end is closed, since nothing is ever written to it
    os._exit(1)


def _run(index: int) -> Any:
    return _call(index)
