"""The folder of an evaluation, owned by one run, whose processes may be several."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metro_fast._ranks import is_first, owned_by_first
from metro_fast._temporary import remove_unfinished_writes

__all__ = ["owned_output"]


@contextmanager
def owned_output(output: str | os.PathLike[str] | None) -> Iterator[None]:
    """Own the folder of an evaluation, for all processes that share it.

    Args:
        output: The folder, from which the temporary files of a killed run are removed; None owns
            nothing.

    Raises:
        MetroFastError: If another run writes to it.
        OSError: If it cannot be made or written.
    """
    if output is None:
        yield
        return
    with owned_by_first(output):
        if is_first():
            remove_unfinished_writes(Path(output), "items", "prompts", "cells/*/*")
        yield
