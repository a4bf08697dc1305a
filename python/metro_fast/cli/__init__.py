"""The command line, `metro-fast`: one file per command, which calls a function of a room.

A command's module is imported only when that command is asked for, so that `metro-fast --help`
costs typer and rich alone.
"""

from metro_fast.cli.app import main

__all__ = ["main"]
