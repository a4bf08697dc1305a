"""`metro-fast prompts read`: public task files as items."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from metro_fast._shown import printable
from metro_fast.cli.own_inputs import refuse_inputs
from metro_fast.cli.unused import refuse_unused
from metro_fast.errors import MetroFastError
from metro_fast.prompts import (
    TASK_METRICS,
    Read,
    read_bbh,
    read_fewrel,
    read_lm_eval,
    read_mmlu,
    read_semeval,
    read_story_cloze,
    read_table,
)

app = typer.Typer(add_completion=False)


@app.command()
def read_command(
    ctx: typer.Context,
    source: Annotated[
        str, typer.Argument(help="File or folder; with --kind lm-eval, the task's name.")
    ],
    kind: Annotated[
        Literal["table", "semeval", "fewrel", "bbh", "mmlu", "story-cloze", "lm-eval"],
        typer.Option(help="The format."),
    ],
    output: Annotated[Path, typer.Option(help="JSONL file of items to write.")],
    task_type: Annotated[str | None, typer.Option(help="Task type, which a table needs.")] = None,
    answer: Annotated[str | None, typer.Option(help="With a table: column of the answer.")] = None,
    choice_column: Annotated[
        list[str] | None,
        typer.Option(help="With a table: column of a choice; by default the answers are all."),
    ] = None,
    choice: Annotated[
        list[str] | None,
        typer.Option(
            help="With a table: text of a choice of all rows, whose answers are texts or numbers."
        ),
    ] = None,
    first_answer: Annotated[
        int, typer.Option(help="With a table: the number of the first choice.")
    ] = 0,
    metric: Annotated[
        str | None,
        typer.Option(help=f"How answers are counted, if not as usual: {', '.join(TASK_METRICS)}."),
    ] = None,
    names: Annotated[Path | None, typer.Option(help="With fewrel: its pid2name.json.")] = None,
    strict: Annotated[bool, typer.Option(help="Refuse a source that is not taken whole.")] = False,
) -> None:
    """Write a public task as items, and say what was not taken and why."""
    _refuse_unused(ctx, kind)
    refuse_inputs(output, "--output", source, *([] if names is None else [names]))
    if kind == "table":
        if choice and choice_column:
            raise MetroFastError(
                "--choice and --choice-column are both given: all rows have the same choices, or "
                "each has its own; give one of the two"
            )
        if task_type is None or answer is None:
            raise MetroFastError(
                "a table needs --task-type, which selects the instructions, and --answer, the "
                "column of the right answer; give both"
            )
        task, report = read_table(
            source,
            task_type=task_type,
            answer=answer,
            choices=choice or (None if choice_column else "labels"),
            choice_columns=choice_column or (),
            first_answer=first_answer,
        )
    else:
        task, report = _read(kind, source, task_type, names)
    typer.echo(printable(str(report)))
    if strict:
        report.check()
    whole = task if metric is None else replace(task, metric=metric)
    typer.echo(f"wrote {whole.save(output)}")


def _refuse_unused(ctx: typer.Context, kind: str) -> None:
    """Refuse the options that say nothing about sources of a kind."""
    if kind != "table":
        refuse_unused(
            ctx, "answer", "choice", "choice_column", "first_answer", without="--kind table"
        )
    if kind not in ("table", "lm-eval", "bbh"):
        refuse_unused(ctx, "task_type", without="--kind table, lm-eval or bbh")
    if kind != "fewrel":
        refuse_unused(ctx, "names", without="--kind fewrel")


def _read(kind: str, source: str, task_type: str | None, names: Path | None) -> Read:
    if kind == "lm-eval":
        return read_lm_eval(source, task_type=task_type)
    if kind == "fewrel":
        return read_fewrel(source, names)
    if kind == "bbh":
        return read_bbh(source, task_type=task_type or "qa")
    readers = {"semeval": read_semeval, "mmlu": read_mmlu, "story-cloze": read_story_cloze}
    return readers[kind](source)
