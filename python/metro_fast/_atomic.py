"""Files that are either whole or absent, and folders that know their files."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

__all__ = ["damaged_file", "sync_files", "write_atomically"]


def write_atomically(path: str | os.PathLike[str], data: bytes | str) -> Path:
    """Write a file so that no reader ever sees half of it.

    Args:
        path: File to write; its folder is made when absent. An existing file is replaced.
        data: Content; text is written as UTF-8.

    Returns:
        The path.

    Raises:
        OSError: If the folder cannot be made or written; what was at `path` is then untouched.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> write_atomically(f"{folder}/a.txt", "whole").read_text()
        'whole'
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile.mkstemp: its files are mode 0600 whatever the umask says, and rename keeps that.
    temporary = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def sync_files(folder: Path, *, but: str) -> dict[str, int]:
    """Make every file of a folder last, so that a mark written afterwards does not outlive them.

    Args:
        folder: Looked through at every depth.
        but: Name of the mark itself, which is left out.

    Returns:
        Bytes of each file, by its path in the folder.

    Raises:
        OSError: If a file cannot be read.
    """
    sizes = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != but:
            with path.open("rb") as file:
                os.fsync(file.fileno())
            sizes[str(path.relative_to(folder))] = path.stat().st_size
    return sizes


def damaged_file(folder: Path, sizes: Mapping[str, int]) -> str | None:
    """What is wrong with the first file that does not have the size that `sync_files` saw.

    Example:
        >>> damaged_file(Path("nowhere"), {"a.txt": 5})
        'nowhere/a.txt is missing or does not have its 5 bytes'
    """
    for name, size in sizes.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            return f"{path} is missing or does not have its {size} bytes"
    return None
