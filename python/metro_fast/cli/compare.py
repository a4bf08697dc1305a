"""`metro-fast compare`: is the second model as good and as robust as the first?"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from metro_fast._shown import quoted
from metro_fast.cli.console import plain_console
from metro_fast.cli.own_inputs import refuse_inputs
from metro_fast.cli.saved_reports import two_members
from metro_fast.cli.study_tables import show_tables, write_tables
from metro_fast.errors import MetroFastError
from metro_fast.robustness import Table, compare
from metro_fast.robustness.study.references import pair_table
from metro_fast.robustness.verdicts import BETTER, UNDECIDED, WORSE

app = typer.Typer(add_completion=False)
FAILED = 1


@app.command()
def compare_command(
    first: Annotated[
        Path,
        typer.Argument(help="Results of the reference: a results_*.json, or a folder with one."),
    ],
    second: Annotated[Path, typer.Argument(help="Results of the model that is judged.")],
    margin: Annotated[
        float, typer.Option(help="Differences up to so many points count as equal.")
    ] = 1.0,
    tasks: Annotated[
        list[str] | None, typer.Option(help="Task to compare; all by default.")
    ] = None,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            help="Exit with 1 if a task has this verdict (worse, undecided or better); may be "
            "given several times.",
        ),
    ] = None,
    format: Annotated[  # noqa: A002 - the option's name
        Literal["text", "json", "csv", "md"], typer.Option(help="How the table is written.")
    ] = "text",
    output: Annotated[
        Path | None, typer.Option(help="File to write it to; by default it is printed.")
    ] = None,
) -> None:
    """Judge a model against another one, from the answers that both have given to the same cells.

    No model is loaded. Over several tasks, a loss needs a p below .05 by Holm's correction.

    A gate for CI: metro-fast compare old new --margin 2 --fail-if worse

    The same, where equality must be shown: --fail-if worse undecided

    Exit status: 0 no such verdict; 1 a verdict of --fail-if; 2 nothing was compared (an error).
    """
    if not 0 < margin < 100:
        raise MetroFastError(
            f"--margin is {margin:g}, expected points above 0 and below 100, such as 1"
        )
    for each in fail_if or ():
        if each not in (WORSE, UNDECIDED, BETTER):
            raise MetroFastError(
                f"--fail-if is {quoted(each)}: give {WORSE}, {UNDECIDED} or {BETTER}"
            )
    refuse_inputs(output, "--output", first, second)
    one, two = two_members(first, second)
    found = compare(one.report, two.report, tasks=tasks or None, margin=margin / 100)
    pairs = [(one, two, task.task, found) for task in found.tasks]
    question = f"Is {two.card.name} as good and as robust as {one.card.name}?"
    table = pair_table("compare", question, pairs)
    if format == "text":
        if output is not None:
            raise MetroFastError("--output needs --format json, csv or md: choose one")
        _show(table)
    else:
        write_tables([table], format, output)
    failed = [row for row in table.rows if row["verdict"] in (fail_if or ())]
    for row in failed:
        plain_console(stderr=True).print(
            f"metro-fast: {row['task']}: {two.card.name} is {row['verdict']}, and --fail-if "
            f"{row['verdict']} is given"
        )
    if failed:
        raise typer.Exit(FAILED)


def _show(table: Table) -> None:
    show_tables([table])
    console = plain_console()
    for row in table.rows:
        console.print(f"{row['task']}: {row['sentence']}")
        if row["verdict"] != row["own_verdict"]:
            console.print(f"Over {len(table)} tasks, this is {row['verdict']}.")
