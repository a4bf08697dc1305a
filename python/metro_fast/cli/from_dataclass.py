"""A command from a settings dataclass: its fields are the options, its docstring the help.

The dataclass is the one place where a setting's name, type, default and meaning are written.
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
    """Read the meaning of each field from the `Args:` or `Attributes:` of the class and its bases.

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


def command_from_dataclass(
    settings: type[T],
    run: Callable[[T], None],
    check: Callable[[typer.Context, T], None] | None = None,
) -> Callable[..., None]:
    """Make the function that typer turns into a command.

    Args:
        settings: A dataclass whose fields have types that typer knows; a `Literal` becomes a choice
            of its values.
        run: Called with the settings that the command line gave.
        check: Called before it with the context and the settings, to refuse what does not fit.

    Returns:
        A function with one keyword parameter for each field, and `config` for `--config FILE`.
    """

    def command(ctx: typer.Context, **values: Any) -> None:
        values.pop("config")
        made = settings(**values)
        if check is not None:
            check(ctx, made)
        run(made)

    options = _options(settings)
    # Required options first.
    options.sort(key=lambda option: option.default is not inspect.Parameter.empty)
    options.append(
        inspect.Parameter(
            "config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=ConfigOption
        )
    )
    context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    options.insert(0, context)
    command.__annotations__ = {option.name: option.annotation for option in options}
    command.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    command.__doc__ = (inspect.getdoc(settings) or "").partition("\n\n")[0]
    return command


def _options(settings: type) -> list[inspect.Parameter]:
    """One parameter for each field: those of the class itself first, then those of its bases."""
    hints = get_type_hints(settings)
    texts = option_help(settings)
    options = []
    for field in sorted(dataclasses.fields(settings), key=lambda f: _depth(settings, f.name)):
        default: Any = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        required = default is dataclasses.MISSING
        option = typer.Option(help=texts.get(field.name, ""), show_default=not required)
        options.append(
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if required else default,
                annotation=Annotated[hints[field.name], option],
            )
        )
    return options


def _depth(settings: type, name: str) -> int:
    """The number of the class that introduces a field, in the order of method resolution."""
    owners = [i for i, c in enumerate(settings.__mro__) if name in inspect.get_annotations(c)]
    return owners[-1]
