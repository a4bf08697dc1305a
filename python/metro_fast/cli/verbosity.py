"""How much a command prints: `--verbose`, `--quiet`, or `--json` for programs."""

from typing import Annotated, TypeAlias

import typer

from metro_fast.errors import MetroFastError

Verbose: TypeAlias = Annotated[
    bool, typer.Option("--verbose", help="Print every tensor and module, on many screens.")
]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", help="Print warnings and errors alone.")]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]


def refuse_several(**given: bool) -> None:
    """Refuse more than one of the options that say how much is printed.

    Args:
        given: Whether each was given, by its name.

    Raises:
        MetroFastError: Naming the first two.
    """
    flags = [f"--{name}" for name, value in given.items() if value]
    if len(flags) > 1:
        raise MetroFastError(f"{flags[1]} does not go with {flags[0]}: leave one of them out")
