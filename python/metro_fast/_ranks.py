"""A process that is one of several ranks: what it owns, and its orderly end."""

import atexit
import functools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metro_fast._folder_lock import owned_folder


def is_first() -> bool:
    """Whether this process is the first of its ranks, also before they have joined a group."""
    distributed = _group()
    if distributed is not None:
        return bool(distributed.get_rank() == 0)
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return not several or os.environ.get("RANK", "0") == "0"


@contextmanager
def owned_by_first(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Own a folder for all ranks: the first one holds its lock (`owned_folder`).

    If it is refused, it ends with an error, and a launcher ends the others.

    Raises:
        MetroFastError: If another run owns the folder.
        OSError: If it cannot be made or written.
    """
    if not is_first():
        yield
        return
    with owned_folder(Path(folder)):
        yield


@functools.cache
def leave_group_at_exit() -> None:
    """Destroy the process group when the interpreter ends, if it still exists.

    accelerate does not do so; a thread of gloo that outlives the interpreter then sometimes aborts
    the process, and torchrun reports a finished run as failed.
    """
    atexit.register(_leave)


def _leave() -> None:
    distributed = _group()
    if distributed is not None:
        distributed.destroy_process_group()


def _group() -> Any:
    """torch.distributed, if this process is in a group; without torch, it is in none."""
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed
