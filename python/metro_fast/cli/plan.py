"""`metro-fast plan`: how many more items and wordings a precision needs, or a budget allows."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table as RichTable

from metro_fast.cli.console import plain_console
from metro_fast.cli.own_inputs import refuse_inputs
from metro_fast.cli.study_tables import write_tables
from metro_fast.errors import MetroFastError
from metro_fast.robustness import Study, Table, plan_table

app = typer.Typer(add_completion=False)


@app.command()
def plan_command(
    folder: Annotated[Path, typer.Argument(help="Folder of an evaluation.")],
    half_width: Annotated[
        float | None,
        typer.Option(help="Wanted half width of the 95 % interval, in points, such as 2."),
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option(help="Most answers to ask a model for, over all wordings and items.", min=1),
    ] = None,
    of: Annotated[
        Literal["mean", "gap"],
        typer.Option(help="Precision of the mean over wordings, or of seen minus unseen ones."),
    ] = "mean",
    max_items: Annotated[int, typer.Option(help="How many items there can be.", min=2)] = 1_000_000,
    max_wordings: Annotated[
        int, typer.Option(help="How many wordings there can be; of each side, for a gap.", min=2)
    ] = 200,
    format: Annotated[  # noqa: A002 - the option's name
        Literal["text", "json", "csv", "md"], typer.Option(help="How the table is written.")
    ] = "text",
    output: Annotated[
        Path | None, typer.Option(help="File to write it to; by default it is printed.")
    ] = None,
) -> None:
    """Plan an evaluation from the answers so far: with --half-width, or with --budget.

    Example: metro-fast plan evaluation --half-width 2

    Example: metro-fast plan evaluation --budget 20000 --of gap
    """
    if (half_width is None) == (budget is None):
        raise MetroFastError("give one of --half-width and --budget")
    if half_width is not None and not 0 < half_width < 100:
        raise MetroFastError(f"--half-width is {half_width:g} points, expected one from 0 to 100")
    refuse_inputs(output, "--output", folder)
    table = plan_table(
        Study.load(folder),
        half_width=None if half_width is None else half_width / 100,
        budget=budget,
        of=of,
        max_items=max_items,
        max_wordings=max_wordings,
    )
    if format != "text" or output is not None:
        write_tables([table], format, output)
        return
    plain_console().print(_shown(table, of))
    for note in table.notes:
        typer.echo(note)


def _shown(table: Table, of: str) -> RichTable:
    shown = RichTable(title=f"Plans for the {of}", title_justify="left")
    for head in ("model", "reading", "task", "wordings", "items", "answers", "half width"):
        shown.add_column(head, overflow="fold")
    for row in table.rows:
        shown.add_row(
            str(row["model"]),
            str(row["reading"]),
            str(row["task"]),
            f"{row['wordings']} (+{row['more_wordings']})",
            f"{row['items']:,} (+{row['more_items']:,})",
            f"{row['answers']:,}",
            f"± {100 * float(row['half_width'] or 0):.1f} points",
        )
    return shown
