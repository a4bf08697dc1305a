"""`metro-fast prompts`: public wordings and tasks as files for evaluate and finetune."""

from typing import ClassVar

import typer

from metro_fast.cli.app import LazyGroup


class PromptsGroup(LazyGroup):
    """`metro-fast prompts`."""

    table: ClassVar[dict[str, tuple[str, str]]] = {
        "import": ("metro_fast.cli.prompts_import", "Turn public wordings into instructions."),
        "read": ("metro_fast.cli.prompts_read", "Turn a public task file into items."),
        "check": ("metro_fast.cli.prompts_check", "Count the items that wordings cannot word."),
    }


app = typer.Typer(cls=PromptsGroup, add_completion=False)


@app.callback()
def _prompts() -> None:
    """Import public wordings, read public tasks, and check one with the other."""
