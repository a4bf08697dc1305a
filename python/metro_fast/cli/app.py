"""The tree of commands, loaded when they are called, and how their errors are shown."""

import importlib
import sys
from typing import Annotated, Any, ClassVar, NoReturn

import typer
from typer.core import TyperGroup

from metro_fast import __version__
from metro_fast.errors import MetroFastError, MissingExtraError

INTERRUPTED = 130


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

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import the module of the command that the command line calls."""
        name, _, rest = super().resolve_command(ctx, args)
        module, _ = self.table[str(name)]
        command = typer.main.get_command(importlib.import_module(module).app)
        command.name = name
        return name, command, rest


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
        "import-log": (
            "metro_fast.cli.import_log",
            "Read logs of lm-eval, Inspect and HELM.",
        ),
        "expert": ("metro_fast.cli.expert", "Compress, decompress, inspect PEFT experts."),
        "env": ("metro_fast.cli.env", "Show the versions and the abilities of this machine."),
    }


app = typer.Typer(
    cls=MainGroup,
    no_args_is_help=True,
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
    try:
        app(prog_name="metro-fast")
    except (MetroFastError, MissingExtraError, OSError, TypeError) as error:
        sys.stderr.write(f"metro-fast: {error}\n")
        sys.exit(1)
    except (KeyboardInterrupt, SystemExit) as stop:
        # typer turns Ctrl-C into an exit with the shell's number for it.
        if isinstance(stop, SystemExit) and stop.code != INTERRUPTED:
            raise
        sys.stderr.write(
            "metro-fast: interrupted; no file is half-written, and the same command continues "
            "where this one stopped (pretrain and finetune with --resume)\n"
        )
        sys.exit(INTERRUPTED)
    sys.exit(0)
