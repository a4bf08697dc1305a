"""`metro-fast recompute`: every number of a folder again, from its saved cells alone."""

from pathlib import Path
from typing import Annotated

import typer

from metro_fast.robustness import read_cards, recompute, write_page

app = typer.Typer(add_completion=False)


@app.command()
def recompute_command(
    folder: Annotated[Path, typer.Argument(help="Folder of one or several evaluations.")],
) -> None:
    """Write every results file and the page of a folder again, from its saved cells alone.

    No model is loaded. Cells that no results file names are added: those of a run that was cut off.

    Example: metro-fast recompute evaluation
    """
    reports = recompute(folder)
    for report in reports:
        typer.echo(f"{report.model_name}: {', '.join(report.tasks)}")
    cards = read_cards(folder).values()
    typer.echo(f"wrote {write_page(folder / 'report.html', reports, cards=cards)}")
