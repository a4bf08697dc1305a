"""An orderly end of a process that is one of several ranks."""

import atexit
import functools

from torch import distributed


@functools.cache
def leave_group_at_exit() -> None:
    """Destroy the process group when the interpreter ends, if it still exists.

    accelerate does not do so; a thread of gloo that outlives the interpreter then sometimes aborts
    the process, and torchrun reports a finished run as failed.
    """
    atexit.register(_leave)


def _leave() -> None:
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
