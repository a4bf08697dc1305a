"""The command line, `metro-fast`: one file a command, each a thin call of a room's function.

A command's module is imported only when that command is asked for, so that `metro-fast --help`
costs typer and rich alone.
"""

from metro_fast.cli.app import main

__all__ = ["main"]
