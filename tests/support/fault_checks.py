"""The check of one fault: the old state or the new one, and then the same call continues."""

import errno
import fnmatch
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from faults import COUNT, Action, Call, Ended, Fault, faults_for, start

_T = TypeVar("_T")
Tree = dict[str, tuple[int, bytes]]
"""Mode and content of every file, by its path in a folder; empty folders are left out."""


@dataclass(frozen=True)
class Case:
    """A command whose every call is attacked.

    Attributes:
        name: Name in the table.
        arguments: The command line; the output is inside the current folder.
        before: Makes the state that the command finds, in the current folder.
        again: The command line that continues after a fault; the same one by default.
        done: A part of the message with which a finished command refuses to run again; empty if
            it runs again.
        growing: Patterns of paths that change while the command runs and that a state between the
            old and the new one may hold: work that is resumed.
        other: The command line of another call with the same output, for `check_two`.
    """

    name: str
    arguments: tuple[str, ...]
    before: Callable[[Path], object] = lambda folder: None
    again: tuple[str, ...] | None = None
    done: str = ""
    growing: tuple[str, ...] = ()
    other: tuple[str, ...] | None = None


@dataclass
class Row:
    """A row of the table: what was found at the points of one command."""

    name: str
    calls: int = 0
    points: int = 0
    states: Counter[str] = field(default_factory=Counter)
    went_on: int = 0
    wrong: list[str] = field(default_factory=list)


def tree_of(folder: Path) -> Tree:
    """The files of a folder; a symbolic link's content is where it points."""
    found: Tree = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = (0, os.fsencode(path.readlink()))
        elif path.is_file():
            found[name] = (path.stat().st_mode & 0o7777, path.read_bytes())
    return found


class Check:
    """All faults of one command."""

    def __init__(self, case: Case, root: Path) -> None:
        self.case, self.root = case, root
        self._work, self._logs = root / "work", root / "logs"
        self._fresh()
        self._old = tree_of(self._work)
        clean = self._run(case.arguments, COUNT)
        assert clean.status == 0, f"{case.name} fails without any fault: {clean.said}"
        self._new = tree_of(self._work)
        self.calls = clean.calls
        self.row = Row(case.name, calls=len(clean.calls))
        self.row.wrong += renamed_unsynced(clean.calls)
        for path in _files_of(self._work, unsynced(clean.calls)):
            self.row.wrong.append(f"{path.name} is not synced at the end")

    def all(self, stride: int = 1, most: int | None = None) -> Row:
        """Check every `stride`th fault, or at most so many that are spread evenly."""
        for fault in _some(list(faults_for(self.calls)), stride, most):
            self.one(fault)
        return self.row

    def one(self, fault: Fault) -> None:
        """Check one fault and the call after it."""
        self._fresh()
        ended = self._run(self.case.arguments, fault)
        if fault.power:
            # What was written and not synced is lost, as it may be; names are kept in their order.
            for path in _files_of(self._work, unsynced(ended.calls[: fault.at - 1])):
                os.truncate(path, 0)
        call = self.calls[fault.at - 1]
        where = f"{fault} ({call.kind} {Path(call.path).name})"
        self.row.points += 1
        state = self._state(where, ended, call, fault)
        self.row.states[state] += 1
        if self._goes_on(where, state):
            self.row.went_on += 1

    def two(self, stride: int = 1, most: int | None = None) -> Row:
        """Stop the command before every call, and let the other call run meanwhile."""
        assert self.case.other is not None
        row = Row(f"{self.case.name}, beside another", calls=len(self.calls))
        self._fresh()
        assert self._run(self.case.other, None).status == 0
        results = {"the first": _shown(self._new), "the second": _shown(tree_of(self._work))}
        for call in _some(self.calls, stride, most):
            self._fresh()
            fault = Fault(call.number, Action.STOP)
            first = start(self.case.arguments, self._work, fault, self._logs)
            first.wait_until_stopped()
            second = start(self.case.other, self._work, None, self.root / "logs of the other").end()
            first.go_on()
            ends = [first.end(), second]
            found = _shown(tree_of(self._work))
            winner = next((name for name, tree in results.items() if tree == found), "MIXED")
            row.points += 1
            row.states[winner] += 1
            row.went_on += winner != "MIXED"
            for ended in ends:
                if ended.status != 0 and not _is_plain(ended):
                    row.wrong.append(f"stopped at {call}: {ended.status}: {ended.said[-600:]}")
            if winner == "MIXED":
                row.wrong.append(f"stopped at {call}: mixed: {sorted(found)}")
            if all(ended.status for ended in ends):
                row.wrong.append(f"stopped at {call}: both fail: {[e.said for e in ends]}")
        return row

    def _fresh(self) -> None:
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir(parents=True)
        self.case.before(self._work)

    def _run(self, arguments: tuple[str, ...], fault: Fault | None) -> Ended:
        return start(arguments, self._work, fault, self._logs).end()

    def _state(self, where: str, ended: Ended, call: Call, fault: Fault) -> str:
        """The state that a fault leaves, after a check of how the process ended."""
        wrong = self.row.wrong
        killed = fault.action in (Action.KILL, Action.HALF_AND_KILL)
        found = tree_of(self._work)
        expected = self._without_growing(found)
        state = "MIXED"
        if expected == self._without_growing(self._old):
            state = "old"
        if expected == self._without_growing(self._new):
            state = "new"
        if state == "MIXED":
            wrong.append(f"{where}: neither old nor new: {_difference(expected, self._new)}")
        if killed:
            if ended.status != -signal.SIGKILL:
                wrong.append(f"{where}: ended with {ended.status}, not by the kill: {ended.said}")
        elif ended.status == 0:
            if state != "new":
                wrong.append(f"{where}: the status is 0 and the state {state}")
        elif not _is_plain(ended) or _reason(fault) not in ended.said:
            wrong.append(f"{where}: status {ended.status} and the words {ended.said[-1500:]!r}")
        elif state == "old":
            state = "refused"
        left = [name for name in found if _hidden(name) and not self._grows(name)]
        left = [name for name in left if name not in self._old]
        may_stay = killed or call.kind in ("unlink", "rmdir")
        if [name for name in left if not (may_stay and _temporary(name))]:
            wrong.append(f"{where}: left behind: {left}")
        return state

    def _goes_on(self, where: str, state: str) -> bool:
        """Whether the next call makes the result of an undisturbed run, to the byte."""
        arguments = self.case.again or self.case.arguments
        ended = self._run(arguments, None)
        finished = state == "new" and bool(self.case.done)
        ended_well = ended.status == 0 or (finished and self.case.done in ended.said)
        found = tree_of(self._work)
        if finished:  # nothing was saved, so nothing was swept
            found = {name: file for name, file in found.items() if not _temporary(name)}
        if ended_well and found == self._new:
            return True
        self.row.wrong.append(
            f"{where}, then again: status {ended.status}, {ended.said[-1500:]!r}, "
            f"{_difference(found, self._new)}"
        )
        return False

    def _grows(self, name: str) -> bool:
        return any(fnmatch.fnmatch(name, pattern) for pattern in self.case.growing)

    def _without_growing(self, tree: Tree) -> Tree:
        return {n: f for n, f in tree.items() if not _hidden(n) and not self._grows(n)}


def _some(points: list[_T], stride: int, most: int | None) -> list[_T]:
    points = points[::stride]
    if most is None or len(points) <= most:
        return points
    # Evenly spread, and with the first and the last one.
    return [points[round(i * (len(points) - 1) / (most - 1))] for i in range(most)]


def renamed_unsynced(calls: list[Call]) -> Iterator[str]:
    """Renames of files, or of folders with files, that were written and not synced before."""
    written: dict[int, str] = {}
    for call in calls:
        if call.kind in ("write", "truncate"):
            written[call.inode] = call.path
        elif call.kind == "fsync":
            written.pop(call.inode, None)
        elif call.kind == "unlink":
            written = {inode: path for inode, path in written.items() if path != call.path}
        elif call.kind in ("rename", "exchange"):
            for inode, path in written.items():
                if path == call.path or path.startswith(f"{call.path}/"):
                    yield f"call {call.number} renames {path}, which is not synced"
                    written[inode] = call.other + path[len(call.path) :]


def unsynced(calls: list[Call]) -> set[int]:
    """The inodes of files that were written after their last sync."""
    found: set[int] = set()
    for call in calls:
        if call.kind in ("write", "truncate"):
            found.add(call.inode)
        elif call.kind == "fsync":
            found.discard(call.inode)
    return found


def _files_of(folder: Path, inodes: set[int]) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [path for path in files if path.stat().st_ino in inodes]


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in Path(name).parts)


def _temporary(name: str) -> bool:
    """Whether a leftover is inside a hidden `.tmp`, or a lock file: the next save removes both."""
    return name.endswith("/.metro_fast.lock") or any(
        part.startswith(".") and part.endswith(".tmp") for part in Path(name).parts
    )


def _shown(tree: Tree) -> Tree:
    return {name: file for name, file in tree.items() if not _hidden(name)}


def _is_plain(ended: Ended) -> bool:
    """Whether a command failed as it should: exit status 1 and words, without a traceback."""
    return (
        ended.status == 1
        and "Traceback" not in ended.said
        and ("metro-fast: " in ended.said or "refused: " in ended.said)
    )


def _reason(fault: Fault) -> str:
    code = errno.ENOSPC if fault.action is Action.FULL else fault.code
    return os.strerror(code) if code else ""


def _difference(found: Tree, expected: Tree) -> str:
    names = [n for n in sorted({*found, *expected}) if found.get(n) != expected.get(n)]
    parts = []
    for name in names[:6]:
        one, two = found.get(name), expected.get(name)
        if one is None or two is None:
            parts.append(f"{name} is {'missing' if one is None else 'superfluous'}")
        else:
            modes = f"mode {one[0]:o} for {two[0]:o}, " if one[0] != two[0] else ""
            parts.append(f"{name}: {modes}{len(one[1])} bytes for {len(two[1])}")
    return "; ".join(parts) or "no difference"
