"""The console of every table, which shows names letter by letter, without markup."""

from typing import Any

from rich.console import Console
from rich.text import Text

from metro_fast._shown import printable

__all__ = ["plain_console"]

_NARROWEST = 10


def plain_console(*, stderr: bool = False) -> Console:
    """A console on which `[red]` and `:tada:` in the name of a tensor or a file stay as they are.

    Args:
        stderr: Whether it writes to the stream of errors.

    Example:
        >>> plain_console().print("layers[0].q")
        layers[0].q
    """
    console = _PlainConsole(stderr=stderr, markup=False, emoji=False, highlight=False)
    if console.width < _NARROWEST:  # COLUMNS=0 printed empty lines in place of a table
        console.width = 80
    return console


class _PlainConsole(Console):
    """Escapes what moves the cursor or turns the direction of writing, in cells and lines alike."""

    def render_str(self, text: str, **options: Any) -> Text:
        """The text of a cell, a title or a line."""
        return super().render_str(printable(text), **options)
