"""Opens regular files, and nothing else.

To open a FIFO waits for a writer, and Ctrl-C is not noticed where a library opens it; a device may
have no end.
"""

import io
import os
import stat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metro_fast._shown import shown
from metro_fast.errors import FormatError

__all__ = ["check_regular", "open_regular", "read_array"]

_PIECE = 16 << 20
"""Bytes that one system call reads: 5 ms, after which Python answers Ctrl-C."""

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_regular(path: Path) -> None:
    """Refuse a path that exists and is neither a regular file nor a folder.

    Only for a file that a library opens by its path: another process may replace it after the
    check. What does not exist, and a folder, are left to the library's own error.

    Raises:
        FormatError: If it is a FIFO, a socket or a device.
    """
    try:
        found = path.stat()
    except OSError:
        return
    _check(path, found.st_mode)


def open_regular(path: Path) -> io.BufferedReader:
    """Open a regular file to read its bytes.

    Raises:
        FormatError: If it is a FIFO, a socket or a device.
        OSError: If it cannot be opened, or is a folder.
    """
    check_regular(path)  # a socket cannot be opened at all, and the system's reason is odd

    # The file owns its descriptor from the moment it exists. With `os.fdopen` a Ctrl-C could come
    # between the two, and the descriptor would be closed twice.
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115  (the caller closes it)
    try:
        _check(path, os.fstat(file.fileno()).st_mode)
    except BaseException:
        file.close()
        raise
    return file


def _without_waiting(path: str, flags: int) -> int:
    """Open without waiting for a writer or taking a terminal; regular files ignore both."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))


def read_array(path: Path, start: int = 0, size: int | None = None) -> NDArray[np.uint8]:
    """Read bytes of a regular file in pieces, so that Ctrl-C is answered in between.

    Args:
        path: The file.
        start: The first byte.
        size: How many bytes, as far as the file has them; all that follow if None.

    Raises:
        FormatError: If it is a FIFO, a socket or a device.
        OSError: If it cannot be read, or is a folder.
    """
    with open_regular(path) as file:
        left = max(os.fstat(file.fileno()).st_size - start, 0)
        data = np.empty(left if size is None else min(size, left), np.uint8)
        file.seek(start)
        view, done = memoryview(data.data), 0
        while done < len(data):
            count = file.readinto(view[done : done + _PIECE])
            if not count:  # it became shorter meanwhile, and its reader says what is missing
                return data[:done]
            done += count
    return data


def _check(path: Path, mode: int) -> None:
    kind = _KINDS.get(stat.S_IFMT(mode))
    if kind is not None:
        raise FormatError(f"{shown(str(path))} is {kind}, expected a regular file")
