"""An operation that is whole or has not happened, whenever it is interrupted."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


class Undo:
    """The steps back to the state before an operation.

    `contextlib.ExitStack` forgets each step before it runs it, so that Ctrl-C during the way back
    would end it half way. These steps are kept, and can be run again from the start.
    """

    def __init__(self) -> None:
        self._steps: list[Callable[[], Any]] = []
        self._back = False

    def callback(self, step: Callable[..., Any], *arguments: Any) -> None:
        """Note a step, before the change that it undoes is made.

        Args:
            step: It must lead back from every state between the old and the new one, also if a
                part of it was run before.
            arguments: Its arguments.
        """
        self._steps.append(partial(step, *arguments))

    def back(self) -> None:
        """Run the steps, the last one first; a second call does nothing if the first one ended."""
        if self._back:
            return
        failed: BaseException | None = None
        for step in reversed(self._steps):
            try:
                step()
            except BaseException as error:  # noqa: BLE001  (the other steps have to run too)
                failed = error
        if failed is not None:
            raise failed
        self._back = True


def all_or_nothing(work: Callable[[Undo], T]) -> T:
    """Run an operation; if any exception ends it, undo what it has done.

    Args:
        work: The operation; it receives an `Undo` for the steps back.

    Returns:
        What it returns.

    Example:
        >>> values = [1]
        >>> def work(undo):
        ...     undo.callback(values.clear)
        ...     values.append(2)
        ...     raise ValueError("no")
        >>> try:
        ...     all_or_nothing(work)
        ... except ValueError:
        ...     values
        []
    """
    undo = Undo()
    try:
        try:
            return work(undo)
        except BaseException:
            undo.back()
            raise
    except BaseException:
        undo.back()  # again, if Ctrl-C came during the way back
        raise


def undone(work: Callable[[Undo], T]) -> T:
    """Run an operation whose changes are undone at its end, however it ends.

    Args:
        work: The operation; it receives an `Undo` for the steps back.

    Returns:
        What it returns.

    Example:
        >>> values = [1]
        >>> def work(undo):
        ...     undo.callback(values.clear)
        ...     return len(values)
        >>> undone(work), values
        (1, [])
    """

    def whole(undo: Undo) -> T:
        result = work(undo)
        undo.back()
        return result

    return all_or_nothing(whole)
