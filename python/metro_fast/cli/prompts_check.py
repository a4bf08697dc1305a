"""`metro-fast prompts check`: which items each instruction can word, before a model is loaded."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from metro_fast._shown import printable, quoted
from metro_fast.cli.console import plain_console
from metro_fast.errors import MetroFastError
from metro_fast.prompts import InstructionSet, Task, by_reason, render_items

app = typer.Typer(add_completion=False)


@app.command()
def check_command(
    tasks: Annotated[
        list[Path], typer.Option(help="JSONL file of items; may be given several times.")
    ],
    instructions: Annotated[Path, typer.Option(help="YAML or JSON file of instructions.")],
    show: Annotated[bool, typer.Option(help="Print the first prompt of each.")] = False,
    strict: Annotated[bool, typer.Option(help="Refuse items that cannot be worded.")] = False,
) -> None:
    """Word every item with every instruction of its type, and count by reason what fails."""
    words = InstructionSet.load(instructions)
    table = Table("task", "instruction", "kind", "worded", "rejects")
    rejected = 0
    for path in tasks:
        task = Task.load(path)
        usable = words.for_task(task.task_type)
        if not usable:
            raise MetroFastError(
                f"{instructions} has no instruction of type {quoted(task.task_type)}, which the "
                f"task {task.name} needs"
            )
        for instruction in usable:
            rendered = render_items(instruction, task)
            rejected += len(rendered.rejects)
            reasons = ", ".join(f"{k}: {v}" for k, v in by_reason(rendered.rejects).items())
            table.add_row(
                task.name,
                instruction.id,
                instruction.kind,
                f"{len(rendered.prompts)} of {len(task)}",
                reasons,
            )
            if show and rendered.prompts:
                prompt = rendered.prompts[0]
                text = f"--- {task.name}, {instruction.id}\n{prompt.input}\n>>> {prompt.target}"
                typer.echo(printable(text))
    plain_console().print(table)
    if strict and rejected:
        raise MetroFastError(
            f"{rejected} times an instruction cannot word an item, for the reasons in the table; "
            "correct the fields or the templates"
        )
