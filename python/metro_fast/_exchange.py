"""Two folders that change places in one step, where the operating system can do that."""

import ctypes
import errno
import os
import sys
from pathlib import Path
from typing import Any

__all__ = ["exchange"]

_CANNOT = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}
_SWAP = 2  # RENAME_EXCHANGE of Linux, and RENAME_SWAP of macOS


def exchange(one: Path, two: Path) -> bool:
    """Give two folders each other's name at once.

    Args:
        one: A folder.
        two: Another one on the same file system.

    Returns:
        Whether that was done; False where it is not possible.

    Raises:
        OSError: If it is possible and fails.

    Example:
        >>> for name in ("a", "b"):
        ...     Path(name).mkdir()
        >>> _ = Path("a/text").write_text("text")
        >>> exchange(Path("a"), Path("b")), Path("b/text").exists()  # doctest: +SKIP
        (True, True)
    """
    library: Any = None if os.name == "nt" else ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(two)
    if sys.platform == "darwin":
        done = library.renamex_np(*names, ctypes.c_uint(_SWAP))
    elif hasattr(library, "renameat2"):  # musl has none
        here = -100  # AT_FDCWD
        done = library.renameat2(here, names[0], here, names[1], ctypes.c_uint(_SWAP))
    else:
        return False
    if done == 0:
        return True
    code = ctypes.get_errno()
    if code in _CANNOT:
        return False
    raise OSError(code, os.strerror(code), str(two))
