"""Calls of the program's entry point in this process, in which torch is imported once."""

import contextlib
import dataclasses
import io
import os
import sys
from pathlib import Path
from unittest import mock

from metro_fast.cli import main


@dataclasses.dataclass
class Ended:
    """How a call of the command line ended; `said` is its error with the lines of a box joined."""

    status: object
    stdout: str
    stderr: str

    @property
    def said(self) -> str:
        """The message as one line, without the usage and the box around it."""
        lines = [line.strip("│╭╮╰╯─ ") for line in self.stderr.splitlines()]
        text = " ".join(line for line in lines if not line.startswith(("Usage:", "Try ")))
        return " ".join(text.split()).removeprefix("Error").strip(" ─")


def call(*arguments: str, folder: Path | None = None, **variables: str) -> Ended:
    """Run `metro-fast` with arguments, in a folder, with variables of the environment."""
    out, err = io.StringIO(), io.StringIO()
    status: object = None
    with (
        contextlib.chdir(folder or Path.cwd()),
        mock.patch.dict(os.environ, {"COLUMNS": "200", **variables}),
        mock.patch.object(sys, "argv", ["metro-fast", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as stop:
            status = stop.code
    return Ended(status, out.getvalue(), err.getvalue())
