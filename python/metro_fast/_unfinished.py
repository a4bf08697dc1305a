"""The temporary files that a killed process has left, of those that `_atomic` writes."""

import re
import shutil
from pathlib import Path

__all__ = ["remove_unfinished_writes"]

_NAME = re.compile(r"\..*\.[0-9a-f]{8}\.tmp", re.DOTALL)


def remove_unfinished_writes(folder: Path, *inside: str) -> None:
    """Remove them from a folder that nobody else writes to.

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
