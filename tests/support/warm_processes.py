"""Processes for the tests that kill them or need several, forked from one that has imported torch.

A fresh interpreter takes seconds to import what a training needs; such a fork takes milliseconds.
tests/conftest.py lists what the server of multiprocessing imports.
"""

import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")


def start(function: Callable[..., None], *arguments: Any, errors: Path) -> ForkServerProcess:
    """Start a function of tests/support in a process of its own, with a session of its own.

    `kill` takes the process's workers too, as a machine's failure would. The session exists when
    this returns: a kill before that would find nothing.

    Args:
        function: The function; an exception of it ends the process with status 1.
        arguments: Its arguments.
        errors: File that gets what the process writes to its standard error.
    """
    ready, began = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_run, args=(began, function, arguments, errors))
    process.start()
    began.close()
    ready.recv()
    ready.close()
    return process


def kill(process: ForkServerProcess) -> None:
    """Kill a started process with all its workers, unless it has ended by itself."""
    # The server of multiprocessing collects its children, so an ended one leaves no zombie.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.join()


def run_ranks(
    count: int, function: Callable[..., None], *arguments: Any, folder: Path, limit: float = 100
) -> None:
    """Run a function in `count` processes that see the environment which torchrun gives its ranks.

    They may take `limit` seconds.

    Raises:
        AssertionError: If one of them fails, with the end of its standard error.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    logs = [folder / f"rank{rank}.log" for rank in range(count)]
    processes = [
        start(_run_rank, rank, count, port, function, arguments, errors=log)
        for rank, log in enumerate(logs)
    ]
    try:
        for process, log in zip(processes, logs, strict=True):
            process.join(limit)
            assert process.exitcode == 0, log.read_text()[-3000:]
    finally:
        for process in processes:
            process.kill()


def _run_rank(
    rank: int, count: int, port: int, function: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    os.environ.update({name: str(value) for name, value in ranks.items()})
    os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)})
    function(*arguments)


def _run(
    began: Connection, function: Callable[..., None], arguments: tuple[Any, ...], errors: Path
) -> None:
    os.setsid()
    began.send(None)
    began.close()
    # The workers of a DataLoader start as they would in a program: the default is not forkserver.
    multiprocessing.set_start_method(None, force=True)
    file = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        function(*arguments)
    except KeyboardInterrupt:  # ends as an interpreter ends after Ctrl-C
        traceback.print_exc()
        sys.stderr.flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
