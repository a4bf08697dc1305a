"""Folders in which no other user may put files that we would read as our own."""

import contextlib
import os
import stat
from pathlib import Path

from metro_fast._shown import shown
from metro_fast.errors import MetroFastError

__all__ = ["private_folder", "private_problem"]

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def private_problem(folder: Path) -> str | None:
    """Why a folder is not one that this user alone writes to, or None if it is.

    The folder itself is looked at, not what a link points to. Root may own it, too.

    Raises:
        OSError: If there is nothing at that path, or it cannot be looked at.

    Example:
        >>> Path("own").mkdir(mode=0o700)
        >>> private_problem(Path("own"))
        >>> Path("link").symlink_to("own")
        >>> private_problem(Path("link"))
        'it is a link, which is not followed'
    """
    found = folder.lstat()
    if stat.S_ISLNK(found.st_mode):
        return "it is a link, which is not followed"
    if not stat.S_ISDIR(found.st_mode):
        return "it is not a folder"
    if os.name == "nt":  # it has neither such owners nor such modes
        return None
    if found.st_uid not in (os.geteuid(), 0):
        return f"its owner is user {found.st_uid}, not user {os.geteuid()}"
    if found.st_mode & _WRITABLE_BY_OTHERS:
        mode = stat.S_IMODE(found.st_mode)
        return f"its mode {mode:o} lets other users write to it (chmod go-w)"
    return None


def private_folder(folder: Path, variable: str) -> Path:
    """A folder that only this user writes to; it is made, open to nobody else, if absent.

    Args:
        folder: Its path.
        variable: The environment variable that can name another one, for the message.

    Returns:
        The path.

    Raises:
        MetroFastError: If what is there belongs to another user, may be written by others, or is a
            link or a file.
        OSError: If it cannot be made.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    problem = private_problem(folder)
    if problem is not None:
        raise MetroFastError(
            f"{shown(str(folder))} is not used, because {problem}: set {variable} to a folder of "
            "your own"
        )
    return folder
