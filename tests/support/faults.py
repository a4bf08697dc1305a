"""One command in a forked process, in which one chosen call to the system fails or kills it.

faults.c counts the calls that change files under a folder. It is loaded with LD_PRELOAD, so this
module works in a process that `fault_table.py` started with it: everything is imported there once,
and each command runs in a fork, in milliseconds.
"""

import ctypes
import enum
import errno
import os
import select
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_name("faults.c")
COMPILER = shutil.which("cc") or shutil.which("gcc")
LIMIT = 120.0  # seconds until a command counts as hanging


class Action(enum.IntEnum):
    """Events at the chosen call; the numbers are those of faults.c."""

    COUNT = 0  # nothing: the calls are counted and logged
    FAIL = 1  # the call fails once, with the error of the fault
    FULL = 2  # the disk is full from here on: half a write, then no space for anything new
    KILL = 3  # the process dies before the call
    HALF_AND_KILL = 4  # it dies after half of a write
    SHORT = 5  # half of a write is made, as the kernel may; the program has to go on
    STOP = 6  # the process stops until `go_on`


class Fault(NamedTuple):
    """An event at a call; `power` is a kill after which unsynced contents are gone."""

    at: int
    action: Action
    code: int = 0
    power: bool = False

    def __str__(self) -> str:
        name = "power loss" if self.power else self.action.name.lower().replace("_", " ")
        return f"{name}{f' {errno.errorcode[self.code]}' if self.code else ''} at call {self.at}"


COUNT = Fault(-1, Action.COUNT)


class Call(NamedTuple):
    """A call that was counted."""

    number: int
    kind: str
    path: str
    other: str
    inode: int


@dataclass
class Ended:
    """How a command ended: its exit status (negative for a signal), its words, and its calls."""

    status: int
    out: str
    said: str
    calls: list[Call]


def build(folder: Path) -> Path:
    """Compile faults.c."""
    library = folder / "faults.so"
    flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([str(COMPILER), *flags, "-o", library, SOURCE, "-ldl"], check=True)
    return library


def faults_for(calls: list[Call]) -> Iterator[Fault]:
    """Every fault that can befall these calls, call by call."""
    codes = {
        "write": (errno.ENOSPC, errno.EIO),
        "open": (errno.EACCES,),
        "mkdir": (errno.EACCES,),
        "fsync": (errno.EIO,),
        "rename": (errno.EIO,),
        "exchange": (errno.EIO,),
        "unlink": (errno.EACCES,),
        "rmdir": (errno.EACCES,),
        "truncate": (errno.EIO,),
        "link": (errno.EIO,),
        "chmod": (errno.EPERM,),
    }
    for call in calls:
        yield Fault(call.number, Action.KILL)
        yield Fault(call.number, Action.KILL, power=True)
        for code in codes[call.kind]:
            yield Fault(call.number, Action.FAIL, code)
        if call.kind in ("write", "open", "mkdir", "truncate", "fsync"):
            yield Fault(call.number, Action.FULL)
        if call.kind == "write":
            yield Fault(call.number, Action.HALF_AND_KILL)
            yield Fault(call.number, Action.SHORT)


class Running:
    """A command that runs in a fork."""

    def __init__(
        self, run: Callable[[], int], folder: Path, fault: Fault, logs: Path, armed: bool = True
    ) -> None:
        self._logs = logs
        logs.mkdir(exist_ok=True)
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _become(run, folder, fault if armed else None, logs)
        self._descriptor = os.pidfd_open(self.pid)

    def wait_until_stopped(self) -> bool:
        """Whether the process has stopped itself; False if it has ended."""
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            return True
        self._status = os.waitstatus_to_exitcode(status)
        return False

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def end(self) -> Ended:
        """Wait for the end; a process that hangs is killed, and its status is that of SIGABRT."""
        if not hasattr(self, "_status"):
            if not select.select([self._descriptor], [], [], LIMIT)[0]:
                os.kill(self.pid, signal.SIGABRT)
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self._descriptor)
        texts = [(self._logs / name).read_text(errors="replace") for name in ("out", "err")]
        lines = (self._logs / "calls").read_text(errors="replace").splitlines()
        calls = []
        for line in lines:
            number, kind, path, other, inode = line.split("\t")
            calls.append(Call(int(number), kind, path, other, int(inode)))
        return Ended(self._status, *texts, sorted(calls))


def start(arguments: tuple[str, ...], folder: Path, fault: Fault | None, logs: Path) -> Running:
    """Start `metro-fast` with arguments in a folder, whose changes are counted if there is a fault.

    Args:
        arguments: The command line without the name of the program.
        folder: The current folder of the command, without symbolic links in its path.
        fault: What is to happen; None counts nothing.
        logs: Folder for what the command prints, outside `folder`.
    """

    def run() -> int:
        from metro_fast.cli import main

        sys.argv = ["metro-fast", *arguments]
        try:
            main()
        except SystemExit as stop:
            return stop.code if isinstance(stop.code, int) else int(stop.code is not None)

    return Running(run, folder, fault or COUNT, logs, armed=fault is not None)


def _become(run: Callable[[], int], folder: Path, fault: Fault | None, logs: Path) -> None:
    """Run in the fork, and never return."""
    status = 70  # an exception that the program does not catch
    try:
        for number, name in ((1, "out"), (2, "err")):
            file = os.open(logs / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, number)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        calls = os.open(logs / "calls", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.environ["COLUMNS"] = "200"
        os.chdir(folder)
        library = ctypes.CDLL(None)
        if fault is not None:
            library.faults_arm(
                os.fsencode(folder), ctypes.c_long(fault.at), fault.action, fault.code, calls
            )
        status = run()
        if fault is not None:
            library.faults_disarm()
    except BaseException:  # noqa: BLE001 (it becomes a traceback, which the checks look for)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
