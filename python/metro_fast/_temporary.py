"""Hidden temporary files and folders beside what they become; those of dead processes are removed.

Each is locked by the process that fills it. The kernel ends the lock with the process, so whatever
has the name of a temporary and no lock was left by a kill, and the next save to that place takes
its name. The names are counted, not drawn, so that no folder has to be listed for that.
"""

import errno
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from metro_fast._folder_lock import has_name

__all__ = ["remove_dead", "remove_unfinished_writes", "temporary_file", "temporary_folder"]

_NAME = re.compile(r"\..*\.[0-9a-f]{8}\.tmp", re.DOTALL)
"""The names that `_name` gives."""
_MOST = 1000
"""Saves to one place at a time; more are taken for a file system that does not forget locks."""

if sys.platform == "win32":

    def _lock(descriptor: int) -> bool | None:
        """Whether this process has the lock now; None on a file system without locks."""
        del descriptor  # an open file cannot be removed there, which is as good
        return None
else:
    import fcntl

    def _lock(descriptor: int) -> bool | None:
        """Whether this process has the lock now; None on a file system without locks."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # NFS locks no folder
            return None
        return True


@contextmanager
def temporary_file(target: Path) -> Iterator[tuple[Path, int]]:
    """A new, locked file beside another; it is removed at the end unless it was renamed.

    The module tempfile is not used: its files and folders are closed to other users whatever the
    umask says, and a rename keeps that.

    Args:
        target: The file that it is to become; its folder exists.

    Yields:
        Its path, and a descriptor to write to, which is closed at the end.

    Raises:
        OSError: If it cannot be made.
    """
    path, descriptor = _claim(target, _make_file)
    try:
        yield path, descriptor
    finally:
        with suppress(OSError):  # an error of the caller is the one to report
            if os.name != "nt" and has_name(descriptor, path):
                path.unlink()
        with suppress(OSError):  # closed by the caller, as Windows wants it before a rename
            os.close(descriptor)
        if os.name == "nt":
            path.unlink(missing_ok=True)


@contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """A new, locked folder beside another; what is left of it at the end is removed.

    Args:
        target: The folder that it is to become; its folder exists.

    Raises:
        OSError: If it cannot be made.
    """
    path, descriptor = _claim(target, _make_folder)
    try:
        yield path
    finally:
        if path.exists():
            shutil.rmtree(path, ignore_errors=True)
        if descriptor >= 0:
            os.close(descriptor)


def remove_dead(target: Path) -> None:
    """Remove what a dead save of a folder has left beside it, for a save that works in it.

    Args:
        target: The folder.
    """
    _remove_dead(_name(target, 0))


def remove_unfinished_writes(folder: Path, *inside: str) -> None:
    """Remove the temporaries of dead processes from a folder that nobody else writes to.

    Args:
        folder: The folder.
        *inside: Patterns of the folders in it that are searched as well, such as `checkpoints/*`.

    Raises:
        OSError: If one cannot be removed.

    Example:
        >>> _ = Path(".a.txt.0123abcd.tmp").write_text("half")
        >>> remove_unfinished_writes(Path())
        >>> Path(".a.txt.0123abcd.tmp").exists()
        False
    """
    for each in (folder, *(found for pattern in inside for found in folder.glob(pattern))):
        if not each.is_dir():
            continue
        for path in list(each.iterdir()):
            if not _NAME.fullmatch(path.name):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _name(target: Path, number: int) -> Path:
    return target.with_name(f".{target.name[:200]}.{number:08x}.tmp")


def _claim(target: Path, make: Callable[[Path], int]) -> tuple[Path, int]:
    """Make a temporary under the first name that no running save has, and lock it."""
    for number in range(_MOST):
        path = _name(target, number)
        _remove_dead(path)
        try:
            descriptor = make(path)
        except FileExistsError:
            continue
        if descriptor < 0 or (_lock(descriptor) is not False and has_name(descriptor, path)):
            _remove_dead(_name(target, number + 1))
            return path, descriptor
        os.close(descriptor)  # taken for a dead one before it was locked
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))


def _make_file(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return os.open(path, flags | getattr(os, "O_CLOEXEC", 0), 0o666)


def _make_folder(path: Path) -> int:
    path.mkdir()
    if os.name == "nt":
        return -1
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        path.rmdir()
        raise


def _remove_dead(path: Path) -> None:
    """Remove a temporary that nobody has locked; one that cannot be locked or removed stays."""
    if not os.path.lexists(path) or os.name == "nt":
        return
    with suppress(OSError):
        # Neither a link is followed nor a pipe waited for: a stranger may have put it there.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not _lock(descriptor) or not has_name(descriptor, path):
                return
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        finally:
            os.close(descriptor)
