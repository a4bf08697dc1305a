"""`--config FILE.yaml`: its values become defaults, and flags override them."""

import difflib
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from metro_fast._atomic import write_atomically
from metro_fast._memory import check_file
from metro_fast._shown import shown
from metro_fast._yaml import parse_yaml
from metro_fast.errors import MetroFastError

RESOLVED = "resolved_config.yaml"


def read_config(path: Path) -> dict[str, Any]:
    """Read a YAML file of option names and values.

    Args:
        path: The file; names may be spelled with `-` or `_`.

    Returns:
        Values by option name, spelled with `_`.

    Raises:
        MetroFastError: If the file is not a YAML mapping of names to values.
        OSError: If it cannot be read.

    Example:
        >>> _ = Path("run.yaml").write_text("noise-density: 0.3")
        >>> read_config(Path("run.yaml"))
        {'noise_density': 0.3}
    """
    check_file(path)
    values = parse_yaml(path.read_bytes(), path)
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise MetroFastError(
            f"{path} holds a {type(values).__name__}, expected lines of name: value"
        )
    return {name.replace("-", "_"): value for name, value in values.items()}


def _apply(ctx: typer.Context, path: Path | None) -> Path | None:
    if path is None or ctx.resilient_parsing:
        return path
    values = read_config(path)
    known = {param.name for param in ctx.command.params} - {"config", "help"}
    unknown = sorted(set(values) - known)
    if unknown:
        near = difflib.get_close_matches(unknown[0], sorted(name for name in known if name), n=2)
        raise MetroFastError(
            f"{path} sets {shown(', '.join(unknown))}, which `{ctx.command_path}` does not have; "
            + (f"did you mean {' or '.join(near)}?" if near else "its options are ")
            + ("" if near else ", ".join(sorted(name for name in known if name)))
        )
    lists = {each.name for each in ctx.command.params if _is_list(each)}
    fitting = {name: _fitting(path, name, values[name], name in lists) for name in values}
    given = {name: value for name, value in fitting.items() if value is not None}
    ctx.default_map = {**(ctx.default_map or {}), **given}
    return path


def _is_list(parameter: Any) -> bool:
    """Whether a parameter has several values: an option to repeat, or an argument of any number."""
    return bool(getattr(parameter, "multiple", False)) or parameter.nargs == -1


def _fitting(path: Path, name: str, value: Any, is_list: bool) -> Any:
    """A value of a file as a flag gives it: one value is a list of one where a list is meant."""
    found = value if isinstance(value, list) else [value]
    if isinstance(value, dict) or any(isinstance(each, dict | list) for each in found):
        raise MetroFastError(
            f"{path}: {name} is {shown(repr(value))}, expected a value or a list of values"
        )
    if is_list:
        return None if value is None else [each for each in found if each is not None]
    if isinstance(value, list):
        raise MetroFastError(f"{path}: {name} is the list {shown(repr(value))}, expected one value")
    return value


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="YAML file of option values; flags override it.",
        callback=_apply,
        is_eager=True,
        show_default=False,
    ),
]
"""The `--config` option that every long command has."""


def save_resolved(ctx: typer.Context, folder: Path, *, beside_others: bool = False) -> None:
    """Write the values a command ran with to `resolved_config.yaml` beside its output.

    Args:
        ctx: The running command.
        folder: An existing folder, the command's output.
        beside_others: Whether the folder also has the output of earlier commands, whose values are
            kept: the file gets a number, unless the same values are there.

    Raises:
        OSError: If the folder cannot be written.
    """
    values = {name: _plain(value) for name, value in ctx.params.items() if name != "config"}
    text = yaml.safe_dump(values, sort_keys=True)
    path, number = folder / RESOLVED, 2
    while beside_others and path.exists() and path.read_text(encoding="utf-8") != text:
        path = folder / RESOLVED.replace(".", f"-{number}.")
        number += 1
    write_atomically(path, text)


def _plain(value: Any) -> Any:
    """A value as YAML writes it: paths as text."""
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value
