"""A command of `metro-fast`: several values after one flag, its extras checked before its work."""

from pathlib import Path
from shutil import get_terminal_size
from typing import Any, get_args

from typer.core import TyperCommand

from metro_fast.cli.dotted import USAGE_ERROR, DottedCommand, is_narrow, list_options
from metro_fast.cli.messages import RUNNING
from metro_fast.cli.needs import check_needs
from metro_fast.errors import MetroFastError


class FrontCommand(TyperCommand):
    """The part of every command before its own work; `front` puts it before a class of commands."""

    listed: frozenset[str] = frozenset()
    """Flags of text that holds a list, which may have several values as well."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the flags; `--tasks a b` is `--tasks a --tasks b`."""
        RUNNING.set(ctx)
        for each in filter(_is_path, self.params):
            vars(each)["process_value"] = _refuse_empty(each)
        normal = ctx.token_normalize_func or (lambda token: token)
        repeatable = {*self.listed, *_flags_of(self, multiple=True)}
        valued = {*self.listed, *_flags_of(self, multiple=False)}
        wanted = sum(1 for each in self.params if each.param_type_name == "argument")
        args = spread(args, repeatable, valued | repeatable, wanted, normal)
        try:
            return super().parse_args(ctx, list(args))  # the parser empties the list
        except USAGE_ERROR as error:
            given = [each for each in repeatable if each in map(normal, args)]
            if given and str(getattr(error, "message", "")).startswith("Got unexpected extra"):
                error.message += (  # type: ignore[attr-defined]
                    f": give the flag before each value, {given[0]} A {given[0]} B"
                )
            raise

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, on a narrow terminal as a list."""
        if is_narrow():
            formatter.width = max(min(get_terminal_size().columns, 80) - 2, 30)
        if not is_narrow() or isinstance(self, DottedCommand):
            super().format_help(ctx, formatter)
            return
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        list_options(self, ctx, formatter)

    def invoke(self, ctx: Any) -> Any:
        """Run the command if everything is installed that it needs."""
        check_needs(ctx.command_path, ctx.params)
        return super().invoke(ctx)


def _is_path(parameter: Any) -> bool:
    """Whether the value of a parameter is a path, or a list of them."""
    described = getattr(parameter, "type_descriptor", None)
    if described is None:  # a typer that has the types of click
        return bool(parameter.type.name in ("path", "file", "directory"))
    return described.annotation is Path or Path in get_args(described.annotation)


def _refuse_empty(parameter: Any) -> Any:
    """How a path is read: an empty one, which would mean the current folder, is refused."""
    process = type(parameter).process_value

    def processed(ctx: Any, value: Any) -> Any:
        if value == "" or (isinstance(value, list | tuple) and "" in value):
            raise MetroFastError(
                f"{parameter.opts[0]} is an empty path: give a name, or . for the current folder"
            )
        return process(parameter, ctx, value)

    return processed


def front(kind: type[TyperCommand] | None) -> type[TyperCommand]:
    """A class of commands that is a `FrontCommand` as well."""
    if kind is None:
        return FrontCommand
    if issubclass(kind, FrontCommand):
        return kind
    own: dict[str, Any] = {"listed": getattr(kind, "listed", frozenset())}
    return type(kind.__name__, (FrontCommand, kind), own)


def _flags_of(command: Any, *, multiple: bool) -> list[str]:
    """The flags of the options that have a value, and may or may not be repeated."""
    return [
        flag
        for each in command.params
        if each.param_type_name == "option" and not each.is_flag and each.multiple == multiple
        for flag in each.opts
    ]


def spread(
    args: list[str], repeatable: set[str], valued: set[str], wanted: int, normal: Any
) -> list[str]:
    """Give each value after a repeatable flag a flag of its own.

    The values that follow the first one are the flag's only if the arguments of the command are
    elsewhere on the line: in `compress --dense a b source target` it is unknown which is which.

    Args:
        args: The command line.
        repeatable: Flags that may be repeated.
        valued: Flags that have a value.
        wanted: Number of arguments that the command needs.
        normal: Returns the spelling of a flag in these sets.

    Returns:
        The command line with each value behind a flag.

    Example:
        >>> spread(["--tasks", "a", "b"], {"--tasks"}, {"--tasks"}, 0, str)
        ['--tasks', 'a', '--tasks', 'b']
    """
    full: list[tuple[str, str | None]] = []  # tokens, each with the flag whose value it may be
    owner: str | None = None
    waiting = False
    for place, token in enumerate(args):
        if token == "--":
            full += [(each, None) for each in args[place:]]
            break
        name = normal(token)
        if token.startswith("--") or (token.startswith("-") and not waiting):
            full.append((token, None))
            waiting = name in valued
            owner = name if name in repeatable else None
        elif waiting:
            full.append((token, None))
            waiting = False
        else:
            full.append((token, owner or ""))
    if sum(1 for _, flag in full if flag == "") + _after_dashes(args) < wanted:
        return args
    return [each for token, flag in full for each in ((flag, token) if flag else (token,))]


def _after_dashes(args: list[str]) -> int:
    return len(args) - args.index("--") - 1 if "--" in args else 0
