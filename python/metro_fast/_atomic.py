"""Files and folders that are either whole or absent, also after a power failure."""

import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from metro_fast._file_errors import named, told
from metro_fast._folder_lock import LOCK, is_empty, owned_folder

__all__ = [
    "damaged_file",
    "move_files",
    "move_folder",
    "sync_files",
    "write_atomically",
    "write_folder",
]


def write_atomically(path: str | os.PathLike[str], data: bytes | str) -> Path:
    """Write a file so that no reader ever sees half of it.

    Args:
        path: File to write; its folder is made when absent. An existing file is replaced.
        data: Content; text is written as UTF-8.

    Returns:
        The path.

    Raises:
        OSError: If the folder cannot be made or written; the file at `path` is then untouched.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> write_atomically(f"{folder}/a.txt", "whole").read_text()
        'whole'
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(target)
    try:
        with named(target):
            with temporary.open("xb") as file:
                file.write(data.encode() if isinstance(data, str) else data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(target.parent)
    return target


def write_folder(
    folder: str | os.PathLike[str], write: Callable[[Path], object], *, keep_others: bool = False
) -> Path:
    """Let `write` fill a temporary folder, then move it, or its files, into place.

    If `write` fails, or the process dies before it is done, `folder` is as it was before. A killed
    process may leave a hidden `.tmp` folder behind; an exception does not.

    Args:
        folder: Where the files end up. It must not exist or be empty, unless `keep_others` is set.
        write: Called with the path of the temporary folder, which exists and is empty.
        keep_others: Whether `folder` may hold other files, which stay. In a folder that is there,
            the new files are then moved one by one, so that a kill between two moves leaves some of
            them old and some new, each of them whole.

    Returns:
        The path of the folder.

    Raises:
        OSError: If a folder cannot be made or written, or `folder` is not empty.

    Example:
        >>> def write(folder):
        ...     (folder / "a.txt").write_text("whole")
        >>> sorted(path.name for path in write_folder("results", write).iterdir())
        ['a.txt']
    """
    target = Path(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    one_by_one = keep_others and target.is_dir()
    # Inside the folder if that stays, since it may be a file system of its own.
    temporary = _beside(target / "new" if one_by_one else target)
    try:
        temporary.mkdir()
        with told(temporary, target):
            write(temporary)
        if one_by_one:
            move_files(temporary, target)
        else:
            sync_files(temporary)
            move_folder(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
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


def move_files(source: Path, target: Path) -> dict[str, int]:
    """Move everything in one folder into another, and make it last; the first is then removed.

    Args:
        source: A folder that nobody else writes to.
        target: An existing folder on the same file system. Files of the same names are replaced.

    Returns:
        The size in bytes of each file, by its path in the folder.

    Raises:
        OSError: If a file cannot be moved.
    """
    sizes = sync_files(source)
    for path in sorted(source.iterdir()):
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
    sizes, usual = {}, _mode_of_new_file(folder)
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


def _beside(target: Path) -> Path:
    """A free name in the same folder, and so on the same file system.

    The module tempfile is not used: its files and folders are closed to other users whatever the
    umask says, and a rename keeps that.
    """
    return target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.tmp")


def _mode_of_new_file(folder: Path) -> int:
    """The permissions of a new file; to ask for the umask itself is to change it, for a moment."""
    probe = _beside(folder / "mode")
    with probe.open("xb") as file:
        mode = os.fstat(file.fileno()).st_mode & 0o666
    probe.unlink()
    return mode


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder last. Windows has no such call and needs none."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
