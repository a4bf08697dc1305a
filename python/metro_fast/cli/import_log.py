"""`metro-fast import-log`: what another harness measured, as cells of an evaluation."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from metro_fast._shown import printable, quoted
from metro_fast.errors import MetroFastError
from metro_fast.prompts import Instruction, InstructionSet
from metro_fast.robustness import (
    ForeignRead,
    Report,
    load_reports,
    read_helm,
    read_inspect,
    read_lm_eval_samples,
    write_page,
)
from metro_fast.robustness.owned import owned_output

app = typer.Typer(add_completion=False)


@app.command()
def import_log_command(
    ctx: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(
            help="lm-eval's samples_*.jsonl, a log of Inspect, or HELM's scenario_state.json."
        ),
    ],
    harness: Annotated[
        Literal["lm-eval", "inspect", "helm"], typer.Option(help="Whose log it is.")
    ],
    output: Annotated[
        Path, typer.Option(help="Folder for the cell, results and the page; what is in it stays.")
    ],
    model_name: Annotated[
        str, typer.Option(help="Name of the model, which lm-eval's samples do not hold.")
    ] = "",
    model_family: Annotated[str, typer.Option(help="Whose `seen_by` counts as seen.")] = "unknown",
    task: Annotated[
        str, typer.Option(help="Name of the task; two wordings of one task get the same name.")
    ] = "",
    instructions: Annotated[
        Path | None, typer.Option(help="With --instruction: YAML or JSON file of instructions.")
    ] = None,
    instruction: Annotated[
        str, typer.Option(help="Id of the wording; by default the log's name of the task.")
    ] = "",
    metric: Annotated[
        str | None, typer.Option(help="How answers are counted, if not as usual.")
    ] = None,
    split: Annotated[str, typer.Option(help="Part of the data, which logs do not hold.")] = "test",
    strict: Annotated[bool, typer.Option(help="Refuse a log that is not taken whole.")] = False,
) -> None:
    """Read a log of another harness, and say what was not taken and why."""
    ctx.with_resource(owned_output(output))
    found = _read(source, harness, model_name, split)
    typer.echo(printable(str(found.report)))
    if strict:
        found.report.check()
    cell = found.cell.to_cell(
        task=task or None,
        instruction=_wording(instructions, instruction, found.cell.task, task),
        model_family=model_family,
        metric=metric,
    )
    typer.echo(f"wrote {Report([cell]).save(output)}")
    typer.echo(f"wrote {write_page(output / 'report.html', load_reports(output))}")


def _read(source: Path, harness: str, model_name: str, split: str) -> ForeignRead:
    if harness == "lm-eval":
        if not model_name:
            raise MetroFastError(
                f"{source} does not hold the name of its model: give it by --model-name"
            )
        return read_lm_eval_samples(source, model_name=model_name, split=split)
    if model_name:
        raise MetroFastError(f"a log of {harness} names its model: leave --model-name out")
    if harness == "inspect":
        return read_inspect(source, split=split)
    return read_helm(source, split=split)


def _wording(path: Path | None, name: str, log_task: str, task: str) -> Instruction | None:
    """The instruction of the log: from a file, or one that only has a name."""
    if path is None:
        if not name:
            return None
        return Instruction(name, task or log_task, f"as the log words {log_task}", origin="log")
    if not name:
        raise MetroFastError("--instructions is given: name the log's wording by --instruction")
    known = {each.id: each for each in InstructionSet.load(path)}
    if name not in known:
        raise MetroFastError(
            f"{path} has no instruction {quoted(name)}: give one of {', '.join(sorted(known))}"
        )
    return known[name]
