"""A command with flags of sections, `--section.name`, and its help."""

from shutil import get_terminal_size
from typing import Any

import typer
from typer.core import TyperCommand

USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]
"""The error of flags that are wrong, whose class typer does not export."""


class DottedCommand(TyperCommand):
    """A command whose options are listed by section, each with its whole name."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """List the options of each section; rich's table would cut their names."""
        list_options(self, ctx, formatter)


def list_options(command: Any, ctx: Any, formatter: Any) -> None:
    """Write the options of a command with their whole names, however narrow the terminal is."""
    formatter.width = max(min(get_terminal_size().columns, 80) - 2, 30)
    panels: dict[str, list[tuple[str, str]]] = {}
    for option in command.get_params(ctx):
        record = option.get_help_record(ctx)
        if record is not None:
            panel = getattr(option, "rich_help_panel", None) or "options"
            panels.setdefault(str(panel), []).append(record)
    for panel, records in panels.items():
        with formatter.section(panel):
            # A longer name has a line of its own.
            formatter.write_dl(records, col_max=min(30, formatter.width // 3))


def is_narrow() -> bool:
    """Whether rich's table of options would cut their names.

    It has five columns, and at 80 characters made `--shuffle-docum…` of a name.
    """
    return get_terminal_size().columns < 120


def spell(token: str) -> str:
    """A flag, or the name of one, with `_` in place of the `-` inside it."""
    dashes = len(token) - len(token.lstrip("-"))
    return token[:dashes] + token[dashes:].replace("-", "_")
