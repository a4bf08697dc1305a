"""A command from a settings dataclass: its fields are the options, its docstring the help.

The dataclass stays the one place where a setting's name, type, default and meaning are written.
"""

import dataclasses
import inspect
import re
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from metro_fast.cli.config import ConfigOption

T = TypeVar("T")


def option_help(settings: type) -> dict[str, str]:
    """Meaning of each field, from the `Args:` or `Attributes:` of the class and its bases.

    Args:
        settings: A dataclass with a Google-style docstring.

    Returns:
        Field name to one line of help.

    Example:
        >>> class Settings:
        ...     '''Settings.
        ...
        ...     Args:
        ...         steps: Optimizer steps,
        ...             at least 1.
        ...     '''
        >>> option_help(Settings)
        {'steps': 'Optimizer steps, at least 1.'}
    """
    found: dict[str, str] = {}
    for ancestor in reversed(settings.__mro__):
        doc = inspect.cleandoc(ancestor.__doc__ or "")
        section = re.search(r"^(?:Args|Attributes):\n((?:[ \t]+.*\n?|\n)+)", doc, re.MULTILINE)
        if section is None:
            continue
        for match in re.finditer(
            r"^ {4}(\w+)(?: \(.*?\))?: (.*(?:\n {8}.*)*)", section[1], re.MULTILINE
        ):
            found[match[1]] = " ".join(match[2].split())
    return found


def command_from_dataclass(settings: type[T], run: Callable[[T], None]) -> Callable[..., None]:
    """Make the function that typer turns into a command.

    Args:
        settings: A dataclass whose fields have types that typer knows.
        run: Called with the settings that the command line gave.

    Returns:
        A function with one keyword parameter a field, and `config` for `--config FILE`.
    """
    hints = get_type_hints(settings)
    texts = option_help(settings)

    def command(**values: Any) -> None:
        values.pop("config")
        run(settings(**values))

    parameters = [inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, default=None)]
    annotations: dict[str, Any] = {"config": ConfigOption}
    for field in dataclasses.fields(settings):  # type: ignore[arg-type]
        default: Any = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        required = default is dataclasses.MISSING
        annotations[field.name] = Annotated[
            hints[field.name],
            typer.Option(help=texts.get(field.name, ""), show_default=not required),
        ]
        parameters.append(
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if required else default,
                annotation=annotations[field.name],
            )
        )
    command.__annotations__ = annotations
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [p.replace(annotation=annotations[p.name]) for p in parameters]
    )
    command.__doc__ = (inspect.getdoc(settings) or "").partition("\n\n")[0]
    return command
