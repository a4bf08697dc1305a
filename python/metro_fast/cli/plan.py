"""`metro-fast plan`: how many more items and wordings a precision needs, or a budget allows."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from metro_fast.cli.console import plain_console
from metro_fast.errors import MetroFastError
from metro_fast.robustness import (
    Plan,
    Report,
    load_reports,
    plan_budget,
    plan_precision,
    variance_components,
)
from metro_fast.robustness.common_items import item_groups, value_matrix

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
) -> None:
    """Plan an evaluation from the answers so far: with --half-width, or with --budget."""
    if (half_width is None) == (budget is None):
        raise MetroFastError("give one of --half-width and --budget")
    if half_width is not None and not 0 < half_width < 100:
        raise MetroFastError(f"--half-width is {half_width:g} points, expected one from 0 to 100")
    table = Table(title=f"Plans for the {of}", title_justify="left")
    for head in ("model", "task", "wordings", "items", "answers", "half width"):
        table.add_column(head, overflow="fold")
    for report in load_reports(folder):
        for task in report.tasks:
            found = _plan(report, task, half_width, budget, of, max_items, max_wordings)
            table.add_row(
                report.model_name,
                task,
                f"{found.wordings} (+{found.more_wordings})",
                f"{found.items:,} (+{found.more_items:,})",
                f"{found.answers:,}",
                f"± {100 * found.half_width:.1f} points",
            )
    plain_console().print(table)
    if of == "gap":
        typer.echo("The wordings are those of each side, seen and unseen.")


def _plan(
    report: Report,
    task: str,
    half_width: float | None,
    budget: int | None,
    of: str,
    max_items: int,
    max_wordings: int,
) -> Plan:
    cells = report.task_cells(task)
    seen = [cell.record.seen for cell in cells]
    smaller = min(sum(seen), len(seen) - sum(seen))
    if of == "gap" and smaller < 2:
        raise MetroFastError(
            f"{report.model_name} on {task} has {sum(seen)} seen wordings of {len(seen)}: a plan "
            "for the gap needs at least 2 seen and 2 unseen ones"
        )
    values = value_matrix(cells)
    components = variance_components(
        values, seen=seen if of == "gap" else None, groups=item_groups(cells[0])
    )
    have = {"wordings": smaller if of == "gap" else len(cells), "items": values.shape[1]}
    if half_width is not None:
        found = plan_precision(components, half_width / 100, **have)
        if found.items > max_items or found.wordings > max_wordings:
            raise MetroFastError(
                f"{report.model_name} on {task} needs {found.wordings} wordings and "
                f"{found.items:,} items, more than there can be: ask for a wider interval"
            )
        return found
    return plan_budget(
        components, budget or 0, most_wordings=max_wordings, most_items=max_items, **have
    )
