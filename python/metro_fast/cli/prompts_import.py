"""`metro-fast prompts import`: instruction sets of others, or the package's own, as a file."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from metro_fast._shown import printable
from metro_fast.cli.own_inputs import refuse_inputs
from metro_fast.cli.unused import refuse_unused
from metro_fast.prompts import (
    Imported,
    import_flan,
    import_promptbench,
    import_promptsource,
    own_instructions,
)

app = typer.Typer(add_completion=False)


@app.command()
def import_command(
    ctx: typer.Context,
    source: Annotated[
        str,
        typer.Argument(help="File or folder of the wordings; with --kind own, the set's name."),
    ],
    kind: Annotated[
        Literal["promptsource", "flan", "promptbench", "own"],
        typer.Option(help="Whose format it is."),
    ],
    output: Annotated[Path, typer.Option(help="YAML or JSON file of instructions to write.")],
    task_type: Annotated[
        str | None, typer.Option(help="Task type of all; by default the source's own name.")
    ] = None,
    seen_by: Annotated[
        list[str] | None,
        typer.Option(help="Model family trained with them; may be given several times."),
    ] = None,
    strict: Annotated[bool, typer.Option(help="Refuse a source that is not taken whole.")] = False,
) -> None:
    """Write public wordings as an instruction file, and say what was not taken and why."""
    refuse_inputs(output, "--output", source)
    if kind == "own":
        others = "--kind promptsource, flan or promptbench"
        refuse_unused(ctx, "task_type", "seen_by", "strict", without=others)
        instructions = own_instructions(source)
        typer.echo(f"{source}: {len(instructions)} instructions of the package")
    else:
        instructions, report = _import(kind, source, task_type, seen_by)
        typer.echo(printable(str(report)))
        if strict:
            report.check()
    typer.echo(f"wrote {instructions.save(output)}")


def _import(
    kind: Literal["promptsource", "flan", "promptbench"],
    source: str,
    task_type: str | None,
    seen_by: list[str] | None,
) -> Imported:
    if kind == "flan":
        families = ["flan-t5"] if seen_by is None else seen_by
        return import_flan(source, task_type=task_type, seen_by=families)
    importer = import_promptsource if kind == "promptsource" else import_promptbench
    return importer(source, task_type=task_type, seen_by=seen_by or ())
