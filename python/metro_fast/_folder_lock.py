"""One process at a time in a folder that a command owns while it runs.

The lock is that of the kernel on an open file, so it ends with the process that holds it, however
that ends. The file itself says nothing: one that a killed process has left is taken by the next.
"""

import errno
import logging
import os
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from metro_fast.errors import MetroFastError

__all__ = ["LOCK", "has_name", "is_empty", "locked_file", "owned_folder"]

_logger = logging.getLogger(__name__)

LOCK = ".metro_fast.lock"
"""The file in a folder that is locked while a command owns the folder, and removed at the end."""

_HELD = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}
# What network and user file systems without locks answer.
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
_ATTEMPTS = 1000

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


_owners: dict[str, tuple[int, int]] = {}
"""Process and thread that hold a lock, by the real path of its file."""
_descriptors: set[int] = set()


def _forget_in_child() -> None:
    """A forked process holds none of its parent's locks, and must not keep them after its end."""
    for descriptor in _descriptors:
        with suppress(OSError):
            os.close(descriptor)
    _descriptors.clear()
    _owners.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)


@contextmanager
def owned_folder(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Own a folder for the time of a `with`; the thread that owns it may do so again inside.

    The folder is made when absent, and removed at the end if nothing was written to it. On a file
    system without locks a warning is logged, and nothing keeps another process out.

    Args:
        folder: The folder.

    Raises:
        MetroFastError: If another process or thread owns it.
        OSError: If it cannot be made or written.

    Example:
        >>> with owned_folder("mine"):
        ...     sorted(path.name for path in Path("mine").iterdir())
        ['.metro_fast.lock']
        >>> Path("mine").exists()
        False
    """
    path = Path(folder)
    made = [each for each in (path, *path.parents) if not each.exists()]
    try:
        with locked_file(
            path / LOCK,
            f"another run writes to {path} (it holds the lock of {path / LOCK}): wait until it has "
            "ended, or choose another output",
        ):
            yield
    finally:
        for each in made:  # the innermost first
            with suppress(OSError):
                each.rmdir()


@contextmanager
def locked_file(path: Path, refusal: str) -> Iterator[None]:
    """Hold the lock of a file, which is made with its folder and removed at the end.

    Args:
        path: The file.
        refusal: The message if another process or thread holds it.

    Raises:
        MetroFastError: If so.
        OSError: If the file cannot be made.
    """
    key, me = os.path.realpath(path), (os.getpid(), threading.get_ident())
    if _owners.get(key) == me:
        yield
        return
    descriptor = _acquire(path, refusal)
    _owners[key] = me
    _descriptors.add(descriptor)
    try:
        yield
    finally:
        if os.getpid() == me[0]:  # a forked child that leaves the `with` holds nothing
            _owners.pop(key, None)
            _descriptors.discard(descriptor)
            _release(path, descriptor)


def _acquire(path: Path, refusal: str) -> int:
    """Lock the file that has this name: another process may have removed the one that we opened."""
    absent: OSError | None = None
    for _ in range(_ATTEMPTS):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)
        # Another process removed the folder in between; mkdir then says that it exists.
        except (FileNotFoundError, FileExistsError) as error:
            absent = error
            continue
        absent = None
        try:
            _lock(descriptor)
            if has_name(descriptor, path):
                return descriptor
        except OSError as error:
            if error.errno in _HELD:
                os.close(descriptor)
                raise MetroFastError(refusal) from error
            if error.errno in _NO_LOCKS:
                _logger.warning(
                    "%s is on a file system without locks (%s): nothing keeps another run out of "
                    "it, so start none beside this one",
                    path.parent, error.strerror,
                )  # fmt: skip
                return descriptor
            os.close(descriptor)
            error.filename = str(path)
            raise
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    if absent is not None:  # /proc has folders in which no file can be made
        raise absent
    raise MetroFastError(refusal)


def has_name(descriptor: int, path: Path) -> bool:
    """Whether an open file or folder is still the one at a path, which may be gone."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat(follow_symlinks=False))
    except FileNotFoundError:
        return False


def _release(path: Path, descriptor: int) -> None:
    """Remove the file and end the lock, in the order in which no other file is removed."""
    if sys.platform == "win32":  # an open file cannot be removed
        os.close(descriptor)
        with suppress(OSError):
            path.unlink()
        return
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode) and has_name(descriptor, path):
            path.unlink()
    except OSError:  # the folder was made read-only meanwhile: the file stays, without a lock
        pass
    finally:
        os.close(descriptor)


def is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing but the lock file that a killed process has left.

    Raises:
        OSError: If it cannot be read.
    """
    return all(each.name == LOCK for each in folder.iterdir())
