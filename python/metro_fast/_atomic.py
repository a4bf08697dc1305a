"""Files that are either whole or absent: a temporary file in the same folder, sync, rename."""

import os
import secrets
from pathlib import Path

__all__ = ["write_atomically"]


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
