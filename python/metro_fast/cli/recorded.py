"""The help of commands whose modules need torch, for a place where torch is not installed.

`recorded_help.json` holds the parameters of these commands; a test compares it with the commands
themselves. `python tests/support/record_help.py` writes it.
"""

import functools
import inspect
import json
import operator
import types
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from metro_fast.cli.dotted import DottedCommand, spell
from metro_fast.errors import MissingExtraError

FILE = "recorded_help.json"
_TYPES = {"str": str, "int": int, "float": float, "bool": bool, "Path": Path}


def stand_in(module: str, error: MissingExtraError) -> typer.Typer:
    """A command with the help of another, whose module cannot be imported.

    Args:
        module: The name of the module.
        error: Raised by the command when it is called for more than its help.
    """
    records = json.loads(files("metro_fast.cli").joinpath(FILE).read_text(encoding="utf-8"))
    if module not in records:
        raise error
    record = records[module]

    def command(**_: Any) -> None:
        raise error

    options = [_parameter(each) for each in record["parameters"]]
    command.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in options}
    command.__doc__ = record["help"]
    if record["dotted"]:
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(cls=DottedCommand, context_settings={"token_normalize_func": spell})(command)
    else:
        app = typer.Typer(add_completion=False)
        app.command()(command)
    return app


def _parameter(record: dict[str, Any]) -> inspect.Parameter:
    hint = _type(record["type"])
    kind = typer.Argument if record["argument"] else typer.Option
    info = kind(*record["flags"], **record["info"])
    required = "default" not in record
    return inspect.Parameter(
        record["name"],
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if required else record["default"],
        annotation=Annotated[hint, info],
    )


def _type(record: Any) -> Any:
    """A type from its record: a name, None, or a list of a word and its parts."""
    if record is None:
        return None
    if isinstance(record, str):
        return _TYPES[record]
    word, *parts = record
    if word == "choices":
        return Literal[tuple(parts)]
    inner: list[Any] = [_type(part) for part in parts]
    return (
        types.GenericAlias(list, inner[0])
        if word == "list"
        else functools.reduce(operator.or_, inner)
    )
