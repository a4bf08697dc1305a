"""The tree of commands, loaded when they are called, and how their errors are shown."""

import difflib
import importlib
import io
import sys
from shutil import get_terminal_size
from typing import Annotated, Any, ClassVar, NoReturn

import typer
from typer.core import TyperGroup

from metro_fast import __version__
from metro_fast._shown import quoted
from metro_fast.cli.command import front
from metro_fast.cli.dotted import is_narrow, list_options
from metro_fast.cli.messages import RUNNING, error_text, speak_plainly, spoken_once
from metro_fast.cli.recorded import stand_in
from metro_fast.errors import MetroFastError, MissingExtraError

INTERRUPTED = 130
NO_COMMAND = 2
STATUS = {"compare": 2}
"""The status of errors, if it is not 1: compare has 1 for a verdict, as diff has for a difference.
"""


class LazyGroup(TyperGroup):
    """A group that imports a command's module when the command, or its help, is asked for."""

    table: ClassVar[dict[str, tuple[str, str]]] = {}

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of the commands, in the order in which they serve a model."""
        return list(self.table)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A stand-in with the command's summary, which is enough for the list of commands."""
        if cmd_name not in self.table:
            return None
        return typer.main.get_command(_summary_only(cmd_name, self.table[cmd_name][1]))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Show the help if no command is called."""
        if not args and not ctx.resilient_parsing:
            # typer's own way prints rich's help only, which is not the one of narrow terminals.
            if text := ctx.get_help():
                typer.echo(text)
            raise typer.Exit(NO_COMMAND)
        rest: list[str] = super().parse_args(ctx, args)
        return rest

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, on a narrow terminal as lists."""
        if not is_narrow():
            super().format_help(ctx, formatter)
            return
        formatter.width = min(get_terminal_size().columns, 80) - 2
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        list_options(self, ctx, formatter)
        with formatter.section("commands"):
            formatter.write_dl([(name, row[1]) for name, row in self.table.items()])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import the module of the command that the command line calls."""
        if args and args[0] not in self.table and not args[0].startswith("-"):
            ctx.fail(_unknown_command(ctx, args[0], self.table))
        name, _, rest = super().resolve_command(ctx, args)
        return name, load(self.table[str(name)][0], str(name)), rest


def load(module: str, name: str) -> Any:
    """A command, or its help if what the command needs is not installed.

    Args:
        module: The module of the command.
        name: The name by which it is called.
    """
    try:
        app = importlib.import_module(module).app
    except MissingExtraError as error:
        app = stand_in(module, error)
    for info in app.registered_commands:
        info.cls = front(info.cls)
    command = typer.main.get_command(app)
    command.name = name
    return command


def _unknown_command(ctx: Any, name: str, table: dict[str, tuple[str, str]]) -> str:
    """The error for a command that there is not, with those that may be meant."""
    paths = {each: f"metro-fast {each}" for each in MainGroup.table}
    for group, inner in _inner_tables().items():
        paths = {**{each: f"metro-fast {group} {each}" for each in inner}, **paths}
    paths |= {each: f"{ctx.command_path} {each}" for each in table}
    near = [name] if name in paths else difflib.get_close_matches(name, paths, n=2)
    if near:
        meant = " or ".join(f"`{paths[each]}`" for each in near)
        return f"No such command {quoted(name)}. Did you mean {meant}?"
    return (
        f"No such command {quoted(name)}. The commands of {ctx.command_path} are "
        f"{', '.join(table)}; `{ctx.command_path} --help` describes them"
    )


def _inner_tables() -> dict[str, dict[str, tuple[str, str]]]:
    """The commands of the groups, whose modules cost nothing to import."""
    groups = {"expert": "ExpertGroup", "prompts": "PromptsGroup"}
    return {
        name: getattr(importlib.import_module(f"metro_fast.cli.{name}"), kind).table
        for name, kind in groups.items()
    }


def _summary_only(name: str, summary: str) -> typer.Typer:
    app = typer.Typer()

    @app.command(name, help=summary)
    def _() -> None: ...

    return app


class MainGroup(LazyGroup):
    """`metro-fast`."""

    table: ClassVar[dict[str, tuple[str, str]]] = {
        "prepare": ("metro_fast.cli.prepare", "Tokenize text into a corpus."),
        "pretrain": (
            "metro_fast.cli.pretrain",
            "Pretrain a T5: METRO or span corruption.",
        ),
        "finetune": (
            "metro_fast.cli.finetune",
            "Finetune on tasks that instructions word.",
        ),
        "curves": (
            "metro_fast.cli.curves",
            "Draw the curves of runs on one page.",
        ),
        "prompts": (
            "metro_fast.cli.prompts",
            "Import public wordings and tasks; check them.",
        ),
        "evaluate": (
            "metro_fast.cli.evaluate",
            "Score tasks under instructions; report.",
        ),
        "compare": (
            "metro_fast.cli.compare",
            "Judge a model against another one; gate CI.",
        ),
        "report": (
            "metro_fast.cli.report",
            "Show what evaluations found, as tables or a page.",
        ),
        "recompute": (
            "metro_fast.cli.recompute",
            "Compute all results of a folder again.",
        ),
        "import-log": (
            "metro_fast.cli.import_log",
            "Read logs of lm-eval, Inspect and HELM.",
        ),
        "plan": (
            "metro_fast.cli.plan",
            "Plan how many items and wordings are needed.",
        ),
        "expert": ("metro_fast.cli.expert", "Compress, decompress, inspect PEFT experts."),
        "env": ("metro_fast.cli.env", "Show the versions and the abilities of this machine."),
    }


app = typer.Typer(
    cls=MainGroup,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"metro-fast {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Pretrain T5 with model-generated signals, ship small experts, measure robustness."""


def main() -> NoReturn:
    """Run the command line; what the user can fix is one line on stderr and exit status 1."""
    speak_plainly()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal of ASCII alone shows names escaped
            stream.reconfigure(errors="backslashreplace")
    try:
        with spoken_once():
            app(prog_name="metro-fast")
    except (MetroFastError, MissingExtraError, OSError, TypeError, MemoryError) as error:
        sys.stderr.write(f"metro-fast: {error_text(error)}\n")
        sys.exit(STATUS.get(getattr(RUNNING.get(), "info_name", ""), 1))
    except (KeyboardInterrupt, SystemExit) as stop:
        # typer turns Ctrl-C into an exit with the shell's number for it.
        if isinstance(stop, SystemExit) and stop.code != INTERRUPTED:
            raise
        sys.stderr.write(
            "metro-fast: interrupted; no file is half-written, and the same command continues "
            "where this one stopped (pretrain and finetune with --resume)\n"
        )
        sys.exit(INTERRUPTED)
    finally:
        RUNNING.set(None)
    sys.exit(0)
