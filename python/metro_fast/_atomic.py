"""Files and folders that are either whole or absent, also after a power failure."""

import os
import shutil
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from metro_fast._exchange import exchange
from metro_fast._file_errors import named, os_errors
from metro_fast._folder_lock import LOCK, is_empty, owned_folder
from metro_fast._temporary import remove_dead, temporary_file, temporary_folder
from metro_fast.errors import MetroFastError

__all__ = [
    "checked_path",
    "damaged_file",
    "move_files",
    "move_folder",
    "replace_folder",
    "sync_files",
    "write_atomically",
    "write_folder",
]

_PIECE = 8 << 20
"""The most bytes that are written before Python looks for Ctrl-C."""


def write_atomically(path: str | os.PathLike[str], data: Any) -> Path:
    """Write a file so that no reader ever sees half of it.

    If the process dies, a hidden `.tmp` file may stay, which the next write to `path` removes.

    Args:
        path: File to write; its folder is made when absent. An existing file is replaced.
        data: Content: bytes, or whatever has bytes, such as an array; text is written as UTF-8.

    Returns:
        The path.

    Raises:
        MetroFastError: If the path is empty.
        OSError: If the folder cannot be made or written; the file at `path` is then untouched.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> write_atomically(f"{folder}/a.txt", "whole").read_text()
        'whole'
    """
    target = checked_path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with named(target), temporary_file(target) as (temporary, descriptor):
        rest = memoryview(data.encode() if isinstance(data, str) else data).cast("B")
        while rest:
            rest = rest[os.write(descriptor, rest[:_PIECE]) :]
        os.fsync(descriptor)
        if os.name == "nt":
            os.close(descriptor)
        temporary.replace(target)
        _sync_folder(target.parent)
    return target


def write_folder(
    folder: str | os.PathLike[str],
    write: Callable[[Path], object],
    *,
    keep_others: bool = False,
    last: str | None = None,
) -> Path:
    """Let `write` fill a temporary folder, then move it, or its files, into place.

    If `write` fails, or the process dies before it is done, `folder` is as it was before. A killed
    process may leave a hidden `.tmp` folder, which the next call removes; an exception does not.

    Args:
        folder: Where the files end up. It must not exist or be empty, unless `keep_others` is set.
        write: Called with the path of the temporary folder, which exists and is empty.
        keep_others: Whether `folder` may hold other files, which stay. In a folder that is there,
            the new files are then moved one by one, so that a kill between two moves leaves some of
            them old and some new, each of them whole. Nobody else writes there meanwhile.
        last: Name of the file that is then moved last, since its presence means that all are there.

    Returns:
        The path of the folder.

    Raises:
        MetroFastError: If the path is empty, or another process writes to the folder.
        OSError: If a folder cannot be made or written, or `folder` is not empty.

    Example:
        >>> def write(folder):
        ...     (folder / "a.txt").write_text("whole")
        >>> sorted(path.name for path in write_folder("results", write).iterdir())
        ['a.txt']
    """
    target = checked_path(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        one_by_one = keep_others and target.is_dir()
        if one_by_one:
            stack.enter_context(owned_folder(target))
            remove_dead(target)
        # Inside the folder if that stays, since it may be a file system of its own.
        beside = target / "new" if one_by_one else target
        temporary = stack.enter_context(temporary_folder(beside))
        with os_errors(temporary, target):
            write(temporary)
            if one_by_one:
                move_files(temporary, target, last=last)
            else:
                sync_files(temporary)
                move_folder(temporary, target)
    return target


def replace_folder(
    folder: Path, write: Callable[[Path], object], without: Collection[str], last: str
) -> None:
    """Replace some files of a folder at once, and keep the others.

    A copy of the folder, in which the other files are links to the same contents, takes its place
    in one step. Where that is not possible, the files `without` are removed and the new ones moved
    one by one, so that a kill in between leaves none of them.

    Args:
        folder: An existing folder. Nobody else writes there meanwhile.
        write: Called with a temporary folder, to which it writes the new files.
        without: Names of the files that are replaced or go away.
        last: Name of the file that is moved last.

    Raises:
        MetroFastError: If another process writes to the folder.
        OSError: If the folder cannot be written.
    """
    target = Path(os.path.realpath(folder))
    with owned_folder(target), named(target), temporary_folder(target / "new") as temporary:
        with os_errors(temporary, target):
            write(temporary)
        sync_files(temporary)
        if os.access(target.parent, os.W_OK) and not target.is_mount():
            with temporary_folder(target) as whole:
                _link_files(target, whole, {*without, LOCK, temporary.name})
                _link_files(temporary, whole, set())
                sync_files(whole)
                shutil.copystat(target, whole)
                if exchange(whole, target):
                    _sync_folder(target.parent)
                    return
        for name in sorted(without, key=lambda name: name != last):
            (target / name).unlink(missing_ok=True)
        move_files(temporary, target, last=last)


def _link_files(source: Path, target: Path, but: Collection[str]) -> None:
    """Give the files of a folder names in another one, or copy them where that cannot be."""

    def link(one: str, two: str) -> None:
        try:
            os.link(one, two, follow_symlinks=False)
        except (PermissionError, NotImplementedError):
            shutil.copy2(one, two, follow_symlinks=False)

    for path in sorted(source.iterdir()):
        if path.name in but:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, target / path.name, symlinks=True, copy_function=link)
        else:
            Path(target / path.name).unlink(missing_ok=True)
            link(str(path), str(target / path.name))


def checked_path(path: str | os.PathLike[str]) -> Path:
    """A path to write to.

    Raises:
        MetroFastError: If it is empty, which `Path` takes for the current folder, or a symbolic
            link to nothing.

    Example:
        >>> checked_path("")
        Traceback (most recent call last):
        metro_fast._core.MetroFastError: the path to write to is empty: give a name
    """
    if not os.fspath(path):
        raise MetroFastError("the path to write to is empty: give a name")
    target = Path(path)
    if target.is_symlink() and not target.exists():
        raise MetroFastError(
            f"{target} is a symbolic link to {target.readlink()}, which does not exist: make that, "
            "remove the link, or choose another output"
        )
    return target


def move_folder(source: Path, target: Path) -> None:
    """Rename a folder, and make the new name last.

    Args:
        source: A folder whose files `sync_files` has made last.
        target: Its new path, on the same file system. An empty folder there is replaced.

    Raises:
        OSError: If the folder cannot be moved, for instance because `target` is not empty.
    """
    if target.is_dir():
        if (target / LOCK).exists() and is_empty(target):  # a killed run has left it
            with owned_folder(target):
                pass
        target.rmdir()
    source.rename(target)
    _sync_folder(target.parent)


def move_files(source: Path, target: Path, *, last: str | None = None) -> dict[str, int]:
    """Move everything in one folder into another, and make it last; the first is then removed.

    Args:
        source: A folder that nobody else writes to.
        target: An existing folder on the same file system. Files of the same names are replaced.
        last: Name of the file that is moved last, when the others are sure to stay.

    Returns:
        The size in bytes of each file, by its path in the folder.

    Raises:
        OSError: If a file cannot be moved.
    """
    sizes = sync_files(source)
    for path in sorted(source.iterdir(), key=lambda path: (path.name == last, path.name)):
        if path.name == last:
            _sync_folder(target)
        path.replace(target / path.name)
    source.rmdir()
    _sync_folder(target)
    return sizes


def sync_files(folder: Path, *, but: str | None = None) -> dict[str, int]:
    """Make every file of a folder last, so that a mark written afterwards does not outlive them.

    A file that a library has closed to others gets the mode of a new file, as the umask has it.

    Args:
        folder: Its files at every depth are synced, and so are the folders themselves.
        but: Name of the mark itself, which is left out.

    Returns:
        The size in bytes of each file, by its path in the folder.

    Raises:
        OSError: If a file cannot be read.
    """
    # A new folder has the permissions of a new file, and those to enter it besides.
    sizes, usual = {}, folder.stat().st_mode & 0o666
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            _sync_folder(path)
        elif path.is_file() and path.name != but:
            mode = path.stat().st_mode
            if usual & ~mode:
                path.chmod(mode | usual)
            with path.open("rb") as file:
                os.fsync(file.fileno())
            sizes[str(path.relative_to(folder))] = path.stat().st_size
    _sync_folder(folder)
    return sizes


def damaged_file(folder: Path, sizes: Mapping[str, int]) -> str | None:
    """Describe the first file that does not have the size that `sync_files` recorded.

    Returns:
        A sentence about that file, or None if every file has its size.

    Example:
        >>> damaged_file(Path("nowhere"), {"a.txt": 5})
        'nowhere/a.txt is missing or does not have its 5 bytes'
    """
    for name, size in sizes.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            return f"{path} is missing or does not have its {size} bytes"
    return None


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder last. Windows has no such call and needs none."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
