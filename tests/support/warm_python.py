"""Python that has imported torch, transformers and peft already: scripts run in forks of it.

Starting an interpreter and importing them takes seconds; a fork takes milliseconds and shares
nothing with the scripts that ran before. `WarmPython.bin` is a folder with the commands `python`
and `metro-fast`, which ask the server for such a fork and hand it their arguments, folder,
environment and streams.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import Self

PRELOADED = (
    "torch transformers.trainer transformers.models.t5.modeling_t5 transformers.models.auto "
    "peft accelerate jinja2 scipy.stats metro_fast.cli.app metro_fast.data metro_fast.experts "
    "metro_fast.experts.loading.load metro_fast.metro metro_fast.tuning "
    "metro_fast.robustness.study.evaluating"
)


class WarmPython:
    """The server, for the time of a `with` block."""

    def __init__(self) -> None:
        # The path of a Unix socket may have 107 bytes, so pytest's folders are too deep for it.
        self._folder = Path(tempfile.mkdtemp(prefix="warm"))
        self.bin = self._folder / "bin"
        self.bin.mkdir()
        address = self._folder / "socket"
        ask = f'exec "{sys.executable}" -SE "{__file__}" ask "{address}"'
        script = Path(sys.executable).with_name("metro-fast")
        for name, arguments in (("python", '"$@"'), ("metro-fast", f'"{script}" "$@"')):
            (self.bin / name).write_text(f"#!/bin/sh\n{ask} {arguments}\n")
            (self.bin / name).chmod(0o755)
        # One thread each: a pool of threads would not survive a fork.
        self._server = subprocess.Popen(
            [sys.executable, __file__, "serve", str(address)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        assert self._server.stdout is not None
        assert self._server.stdout.readline() == "ready\n", "the warm interpreter did not start"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.kill()
        self._server.communicate()
        shutil.rmtree(self._folder)

    def run(self, command: list[str], folder: Path) -> str:
        """Run a command in a folder, with `python` and `metro-fast` from the server.

        Returns:
            What it printed.

        Raises:
            AssertionError: If it failed; the message holds what it printed.
        """
        variables = {
            **os.environ,
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
        }
        done = subprocess.run(
            command, cwd=folder, env=variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def serve(address: str) -> None:
    """Import, then run every script that is asked for in a fork, and answer its exit status."""
    for name in PRELOADED.split():
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # so that a collection in a fork does not copy what the server has imported
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        print("ready", flush=True)
        while True:
            connection, _ = server.accept()
            if os.fork() == 0:  # one process waits for the script ...
                server.close()
                request, streams = receive(connection)
                script = os.fork()
                if script == 0:  # ... and one runs it
                    connection.close()
                    become(request, streams)
                    break
                status = os.waitstatus_to_exitcode(os.waitpid(script, 0)[1])
                with contextlib.suppress(OSError):
                    connection.send(str(status).encode())
                os._exit(0)
            connection.close()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
    os._exit(run_script())


def run_script() -> int:
    """Run the script, then what it registered for its end, and return its exit status.

    The interpreter is not taken down: freeing what the server has imported would take a second.
    """
    status = 0

    def end(kind: type | None, error: BaseException | None, trace: object) -> bool:
        nonlocal status
        if isinstance(error, SystemExit):
            status = error.code if isinstance(error.code, int) else int(error.code is not None)
            if isinstance(error.code, str):
                print(error.code, file=sys.stderr)
        elif error is not None:
            traceback.print_exception(error)
            status = 1
        return True

    with contextlib.ExitStack() as stack:
        stack.push(end)
        runpy.run_path(sys.argv[0], run_name="__main__")
    threading._shutdown()  # waits for threads that are not daemons
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def receive(connection: socket.socket) -> tuple[dict, list[int]]:
    """The request of `ask`: JSON to the end of the stream, and three open files."""
    data, streams, _, _ = socket.recv_fds(connection, 65536, 3)
    while more := connection.recv(65536):
        data += more
    return json.loads(data), streams


def become(request: dict, streams: list[int]) -> None:
    """Take over the folder, the environment, the streams and the arguments of who asks."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    # The old objects remember whether what was open before can seek.
    out, error = sys.stdout, sys.stderr
    sys.stdout = open(1, "w", encoding=out.encoding, errors=out.errors, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, encoding=error.encoding, errors=error.errors, closefd=False)  # noqa: SIM115
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["variables"])
    sys.argv = request["arguments"]
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent)


def ask(address: str, arguments: list[str]) -> int:
    """Have a script run by the server; the answer is its exit status."""
    request = {"arguments": arguments, "folder": str(Path.cwd()), "variables": dict(os.environ)}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        data = json.dumps(request).encode()
        sent = socket.send_fds(connection, [data], [0, 1, 2])
        connection.sendall(data[sent:])
        connection.shutdown(socket.SHUT_WR)
        return int(connection.recv(16) or 1)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        sys.exit(ask(sys.argv[2], sys.argv[3:]))
