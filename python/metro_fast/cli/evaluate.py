"""`metro-fast evaluate`: ask models tasks under instructions, and write the report."""

import logging
import os
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from metro_fast.cli.config import ConfigOption, save_resolved
from metro_fast.cli.evaluate_models import experts_on, model_names, pick_device
from metro_fast.errors import MetroFastError
from metro_fast.prompts import FewShot, InstructionSet, Task, unknown_family_warning
from metro_fast.robustness import Report, evaluate, load_reports, write_page, write_samples
from metro_fast.robustness.ranks import Ranks
from metro_fast.scoring import AnswerStore

app = typer.Typer(add_completion=False)
_logger = logging.getLogger(__name__)


@app.command()
def evaluate_command(
    ctx: typer.Context,
    model: Annotated[str, typer.Option(help="Folder (or Hub name) of the model and tokenizer.")],
    tasks: Annotated[
        list[Path], typer.Option(help="JSONL file of items; may be given several times.")
    ],
    instructions: Annotated[Path, typer.Option(help="YAML or JSON file of instructions.")],
    output: Annotated[
        Path,
        typer.Option(help="Folder for cells, results and the page; what is in it stays."),
    ],
    expert: Annotated[
        list[str] | None,
        typer.Option(
            help="Compressed expert or PEFT adapter to put on the model; may be given several "
            "times, and each is a model of its own."
        ),
    ] = None,
    model_name: Annotated[str, typer.Option(help="Name in tables; by default the folder's.")] = "",
    model_family: Annotated[
        str,
        typer.Option(
            help="Instructions with this name in `seen_by` count as seen; by default model_name."
        ),
    ] = "",
    preset: Annotated[
        Literal["metro_t0", "t0", "lm_eval", "mmlu_letters", "mmlu_argmax", "generate_match"],
        typer.Option(help="How a model is asked; docs/scoring.md describes each."),
    ] = "metro_t0",
    wrapper: Annotated[
        Literal["plain", "alpaca", "vicuna", "wizardlm", "chat"],
        typer.Option(help="Text around every input; chat is the tokenizer's chat template."),
    ] = "plain",
    few_shot: Annotated[
        int, typer.Option(help="Number of worked examples before every item.", min=0)
    ] = 0,
    examples: Annotated[
        list[Path] | None,
        typer.Option(help="With --few-shot: JSONL file of a task's items of another split."),
    ] = None,
    few_shot_seed: Annotated[int, typer.Option(help="Draws the worked examples.", min=0)] = 0,
    limit: Annotated[
        int | None, typer.Option(help="Most items of each task, drawn by their ids.", min=1)
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(help="Most tokens of a written answer.", min=1)
    ] = None,
    max_batch_tokens: Annotated[int, typer.Option(help="Padded tokens of one batch.")] = 16384,
    device: Annotated[
        str, typer.Option(help="Such as cpu or cuda:1; by default a GPU if there is one.")
    ] = "auto",
    store: Annotated[
        Path | None,
        typer.Option(help="File of answers by content, so that none is computed twice."),
    ] = None,
    log_samples: Annotated[
        bool, typer.Option(help="Also write lm-eval's samples_*.jsonl into the output folder.")
    ] = False,
    resume: Annotated[
        bool, typer.Option(help="Keep the finished cells in the output folder.")
    ] = True,
    strict: Annotated[
        bool, typer.Option(help="Refuse items that an instruction cannot word.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Ask tasks under every instruction of their type; write results and one offline page."""
    loaded = [_drawn(Task.load(path), limit) for path in tasks]
    instruction_set = InstructionSet.load(instructions)
    shots = _shots(loaded, few_shot, examples or [], few_shot_seed)
    names = model_names(model, expert or [], model_name)
    ranks = Ranks.current()
    if ranks.is_first:
        for name in [model_family] if model_family else names:
            _warn_if_unknown(instruction_set, model_family, name)
    place = pick_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    answers = None if store is None else AnswerStore(store)
    reports = []
    networks = experts_on(model, expert or [], place)
    for name, (network, tokenizer) in zip(names, networks, strict=True):
        reports.append(
            evaluate(
                network,
                tokenizer,
                loaded,
                instruction_set,
                model_name=name,
                model_family=model_family or name,
                output=output,
                preset=preset,
                wrapper=wrapper,
                few_shot=shots,
                max_new_tokens=max_new_tokens,
                max_batch_tokens=max_batch_tokens,
                store=answers,
                resume=resume,
                strict=strict,
            )
        )
    if not ranks.is_first:
        return
    page = write_page(output / "report.html", load_reports(output))
    save_resolved(ctx, output, beside_others=True)
    console = Console()
    for report in reports:
        if log_samples:
            write_samples(report, output)
        console.print(summary_table(report))
    if answers is not None:
        typer.echo(f"{store}: {answers.hits} answers were known, {answers.misses} were new")
    typer.echo(f"wrote {page}")


def _warn_if_unknown(instructions: InstructionSet, model_family: str, name: str) -> None:
    """Warn of a family that no instruction knows; without one given, only if some is known."""
    warning = unknown_family_warning(instructions, model_family or name)
    if warning and (model_family or instructions.families):
        _logger.warning("--model-family: %s; so all instructions count as unseen", warning)


def _drawn(task: Task, limit: int | None) -> Task:
    return task if limit is None or limit >= len(task) else task.draw(limit)


def _shots(tasks: list[Task], count: int, paths: list[Path], seed: int) -> dict[str, FewShot]:
    """Worked examples by name of task, from the file of that task, or from the only file."""
    if count == 0:
        if paths:
            raise MetroFastError("--examples is given without --few-shot: say how many to show")
        return {}
    files = {task.name: task for task in map(Task.load, paths)}
    found = {}
    for task in tasks:
        examples = files.get(task.name)
        if examples is None and len(files) == len(tasks) == 1:
            (examples,) = files.values()
        if examples is None:
            raise MetroFastError(
                f"--few-shot {count} needs examples for task {task.name!r}: give --examples a file "
                "of that task, of another split"
            )
        found[task.name] = FewShot(examples, count, seed)
    return found


def summary_table(report: Report) -> Table:
    """Tabulate the mean value by task, for seen and for unseen instructions."""
    table = Table(title=f"{report.model_name}, {report.preset}: mean over instructions")
    for column in ("task", "metric", "items", "seen", "unseen", "worst instruction"):
        table.add_column(column, justify="left" if column in ("task", "metric") else "right")
    for task in report.tasks:
        summary = report.summary(task)
        rows = summary.instructions
        left_out = summary.task_item_count - summary.item_count
        table.add_row(
            task,
            summary.metric_label,
            f"{summary.item_count} ({left_out} not worded)"
            if left_out
            else f"{summary.item_count}",
            _mean([row.value for row in rows if row.seen]),
            _mean([row.value for row in rows if not row.seen]),
            f"{summary.worst.instruction_id} {summary.worst.value:.3f}",
        )
    return table


def _mean(values: list[float]) -> str:
    return f"{sum(values) / len(values):.3f}" if values else "none"
