"""`metro-fast report`: the tables of a study, from saved cells alone."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from metro_fast._shown import quoted
from metro_fast.cli.own_inputs import refuse_inputs
from metro_fast.cli.study_tables import write_tables
from metro_fast.errors import MetroFastError
from metro_fast.robustness import TABLES, Study, study_tables, write_page
from metro_fast.robustness.report_folder import distinguished

app = typer.Typer(add_completion=False)
_LONG = ("wordings",)
"""Tables that are not shown on a terminal unless they are asked for."""


@app.command()
def report_command(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders of evaluations, or results_*.json files.")
    ],
    table: Annotated[
        list[str] | None,
        typer.Option(help=f"Table to show ({', '.join(TABLES)}); may be given several times."),
    ] = None,
    margin: Annotated[
        float, typer.Option(help="Differences up to so many points count as equal.")
    ] = 1.0,
    format: Annotated[  # noqa: A002 - the option's name
        Literal["text", "json", "csv", "md", "html"],
        typer.Option(help="How the tables are written; html is the page."),
    ] = "text",
    output: Annotated[
        Path | None,
        typer.Option(help="File to write to, or folder for several CSV; by default printed."),
    ] = None,
) -> None:
    """Show what evaluations found, one table for each question, from their saved answers alone.

    Several folders make one study; no model is loaded.

    Example: metro-fast report evaluation --table broken

    Example: metro-fast report run1 run2 --format csv --output tables
    """
    if not 0 < margin < 100:
        raise MetroFastError(
            f"--margin is {margin:g}, expected points above 0 and below 100, such as 1"
        )
    for each in table or ():
        if each not in TABLES:
            raise MetroFastError(
                f"--table is {quoted(each)}: give one or several of {', '.join(TABLES)}"
            )
    refuse_inputs(output, "--output", *folders)
    study = Study.load(*folders)
    if format == "html":
        if output is None or table:
            raise MetroFastError(
                "--format html writes a page with everything: give --output a file, and no --table"
            )
        reports = distinguished([member.report for member in study.members])
        typer.echo(f"wrote {write_page(output, reports, cards=study.cards)}")
        return
    only = table or [name for name in TABLES if format != "text" or name not in _LONG]
    found = study_tables(study, only=only, margin=margin / 100)
    write_tables(list(found.values()), format, output)
