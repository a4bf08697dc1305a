"""The console of every table, which shows names letter by letter, without markup."""

from rich.console import Console

__all__ = ["plain_console"]


def plain_console(*, stderr: bool = False) -> Console:
    """A console on which `[red]` and `:tada:` in the name of a tensor or a file stay as they are.

    Args:
        stderr: Whether it writes to the stream of errors.

    Example:
        >>> plain_console().print("layers[0].q")
        layers[0].q
    """
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)
