"""Write the help of the commands that need torch: `python tests/support/record_help.py`.

`metro-fast pretrain --help` shows it where torch is not installed.
"""

import importlib
import inspect
import json
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import typer

import metro_fast.cli.recorded
from metro_fast.cli.app import MainGroup, _inner_tables
from metro_fast.cli.dotted import DottedCommand

FILE = Path(metro_fast.cli.recorded.__file__).with_name(metro_fast.cli.recorded.FILE)
MODULES = (
    "pretrain",
    "finetune",
    "curves",
    "evaluate",
    "expert_compose",
    "expert_tune",
)
INFO = ("help", "metavar", "show_default", "rich_help_panel", "min", "max", "case_sensitive")


def record() -> str:
    """The help of all these commands as JSON."""
    found = {f"metro_fast.cli.{name}": _command(f"metro_fast.cli.{name}") for name in MODULES}
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def modules() -> Iterator[tuple[str, str]]:
    """The path of every command, and its module."""
    for name, (module, _) in MainGroup.table.items():
        inner = _inner_tables().get(name)
        if inner is None:
            yield name, module
        else:
            yield from ((f"{name} {each}", row[0]) for each, row in inner.items())


def _command(module: str) -> dict[str, Any]:
    (info,) = importlib.import_module(module).app.registered_commands
    hints = get_type_hints(info.callback, include_extras=True)
    return {
        "help": info.help or inspect.getdoc(info.callback),
        "dotted": issubclass(info.cls, DottedCommand),
        "parameters": [
            _parameter(each, hints.get(each.name, each.annotation))
            for each in inspect.signature(info.callback).parameters.values()
            if hints.get(each.name) is not typer.Context and not _is_hidden(each, hints)
        ],
    }


def _is_hidden(parameter: inspect.Parameter, hints: dict[str, Any]) -> bool:
    return bool(get_args(hints[parameter.name])[-1].hidden)


def _parameter(parameter: inspect.Parameter, hint: Any) -> dict[str, Any]:
    bare, info = get_args(hint)[0], get_args(hint)[-1]
    usual = type(info)(default=...)
    default = {}
    if parameter.default is not inspect.Parameter.empty:
        default = {"default": _plain(parameter.default)}
    return {
        "name": parameter.name,
        "argument": isinstance(info, typer.models.ArgumentInfo),
        "type": _type(bare),
        **default,
        # In Annotated, typer takes the first flag for a default.
        "flags": [
            each for each in (info.default, *(info.param_decls or ())) if isinstance(each, str)
        ],
        "info": {
            name: getattr(info, name)
            for name in INFO
            if getattr(info, name) != getattr(usual, name)
        },
    }


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _type(hint: Any) -> Any:
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return ["choices", *parts]
    if origin in (Union, types.UnionType):
        return ["union", *map(_type, parts)]
    if origin is list:
        return ["list", _type(parts[0])]
    return None if hint is type(None) else hint.__name__


if __name__ == "__main__":
    FILE.write_text(record(), encoding="utf-8")
