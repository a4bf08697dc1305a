"""The bar of a search, on a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def search_progress(
    what: str, total: int, show: bool | None = None
) -> Iterator[Callable[[int, float | None], None]]:
    """A bar on standard error that tells the best score so far.

    Args:
        what: Stands before the bar.
        total: Steps of the whole search.
        show: Whether to draw it; None does on a terminal.

    Yields:
        A function of the steps that are done and the best score, or None before there is one.

    Example:
        >>> with search_progress("search", 2, show=False) as tell:
        ...     tell(1, 0.5)
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
        task = bar.add_task(what, total=total, best="")

        def tell(done: int, best: float | None) -> None:
            bar.update(task, completed=done, best="" if best is None else f"best {best:.4g}")

        yield tell
