"""The progress bar of a search."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def search_progress(
    label: str, total: int, show: bool | None = None
) -> Iterator[Callable[[int, float | None], None]]:
    """A bar on standard error that shows the best score so far.

    Args:
        label: The text before the bar.
        total: Number of steps of the whole search.
        show: Whether to draw it; None draws it on a terminal.

    Yields:
        A function that takes the number of finished steps and the best score, or None before there
        is one.

    Example:
        >>> with search_progress("search", 2, show=False) as update:
        ...     update(1, 0.5)
    """
    if not (sys.stderr.isatty() if show is None else show):
        yield lambda done, best: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[best]}"),
        console=Console(stderr=True),
    ) as bar:
        task = bar.add_task(label, total=total, best="")

        def update(done: int, best: float | None) -> None:
            bar.update(task, completed=done, best="" if best is None else f"best {best:.4g}")

        yield update
