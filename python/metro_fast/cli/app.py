"""The tree of commands, loaded lazily, and what happens to their errors."""

import importlib
import sys
from typing import Any, ClassVar, NoReturn

import typer
from typer.core import TyperGroup

from metro_fast.errors import MetroFastError, MissingExtraError

INTERRUPTED = 130


class LazyGroup(TyperGroup):
    """A group that imports a command's module when the command is called or its help is shown."""

    table: ClassVar[dict[str, tuple[str, str]]] = {}

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the commands, in the order of a model's life."""
        return list(self.table)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A stand-in that knows the command's summary: enough for the list of commands."""
        if cmd_name not in self.table:
            return None
        return typer.main.get_command(_summary_only(cmd_name, self.table[cmd_name][1]))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the command line calls, its module imported now."""
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
        "pretrain": ("metro_fast.cli.pretrain", "Pretrain a T5 on a corpus: METRO, or spans."),
        "finetune": ("metro_fast.cli.finetune", "Finetune on tasks under instructions."),
        "evaluate": ("metro_fast.cli.evaluate", "Score tasks x instructions; write the page."),
        "expert": ("metro_fast.cli.expert", "Compress, decompress, inspect PEFT experts."),
        "env": ("metro_fast.cli.env", "Show versions and what this machine offers."),
    }


app = typer.Typer(
    cls=MainGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _root() -> None:
    """Pretrain T5 with model-generated signals, ship small experts, measure robustness."""


def main() -> NoReturn:
    """Run the command line; what the user can mend is one line on stderr and exit status 1."""
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
            "metro-fast: interrupted; nothing is half-written, and the same command goes on where "
            "this one stopped (pretrain and finetune with --resume)\n"
        )
        sys.exit(INTERRUPTED)
    sys.exit(0)
