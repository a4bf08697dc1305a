"""`metro-fast evaluate`: score one model on tasks under instructions, and write the report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from metro_fast._adapter import load_adapter
from metro_fast._pretrained import load_model, load_tokenizer
from metro_fast.cli.config import ConfigOption, save_resolved
from metro_fast.experts import EXPERT_FILE, load_expert
from metro_fast.experts.adapters.peft_folder import CONFIG
from metro_fast.experts.hub.fetch import resolve_expert
from metro_fast.experts.hub.name import expert_name
from metro_fast.prompts import InstructionSet, Task
from metro_fast.robustness import Report, evaluate, load_reports, write_page
from metro_fast.robustness.unchanged import probe_logits, warn_if_unchanged

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

app = typer.Typer(add_completion=False)


def load_with_expert(
    model: str, expert: str | Path | None
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """Load a model and its tokenizer, with an expert if one is given.

    Args:
        model: Folder of the model, or its name on the Hub.
        expert: Folder of a compressed expert (or its name on the Hub, `hf://owner/name`), or of a
            plain PEFT adapter.

    Returns:
        The model in evaluation mode, and the tokenizer.

    Raises:
        OSError: If there is no such model or expert.
        FormatError: If one of their files is damaged, a weight is missing or has no place, or the
            expert was made for another model.

    Warns:
        UserWarning: If the expert changes no logit.
    """
    path = None if expert is None else resolve_expert(expert)
    if path is not None and not path.exists():
        raise FileNotFoundError(f"{expert} does not exist")
    tokenizer, loaded = load_tokenizer(model), load_model(model)
    if path is not None:
        before = probe_logits(loaded.eval())
        if path.is_file() or (path / EXPERT_FILE).is_file():
            loaded = load_expert(loaded, path)
        elif (path / CONFIG).is_file():
            loaded = load_adapter(loaded, path)
        else:
            raise FileNotFoundError(
                f"{expert} holds neither {EXPERT_FILE} nor {CONFIG}: give the folder of a "
                "compressed expert or of a PEFT adapter"
            )
        warn_if_unchanged(before, probe_logits(loaded.eval()), expert)
    return loaded.eval(), tokenizer


@app.command()
def evaluate_command(
    ctx: typer.Context,
    model: Annotated[str, typer.Option(help="Folder (or Hub name) of the model and tokenizer.")],
    tasks: Annotated[
        list[Path], typer.Option(help="JSONL file of items; may be given several times.")
    ],
    instructions: Annotated[Path, typer.Option(help="YAML or JSON file of instructions.")],
    output: Annotated[Path, typer.Option(help="Folder for cells, results and the page.")],
    expert: Annotated[
        str | None, typer.Option(help="Compressed expert or PEFT adapter to load onto it.")
    ] = None,
    model_name: Annotated[str, typer.Option(help="Name in tables; by default the folder's.")] = "",
    model_family: Annotated[
        str,
        typer.Option(
            help="Instructions with this name in `seen_by` count as seen; by default model_name."
        ),
    ] = "",
    preset: Annotated[
        Literal["metro_t0", "t0", "lm_eval", "mmlu_letters", "mmlu_argmax"],
        typer.Option(help="How choices are scored; docs/scoring.md describes each."),
    ] = "metro_t0",
    wrapper: Annotated[
        Literal["plain", "alpaca", "vicuna", "wizardlm", "chat"],
        typer.Option(help="Text around every input; chat is the tokenizer's chat template."),
    ] = "plain",
    max_batch_tokens: Annotated[int, typer.Option(help="Padded tokens of one batch.")] = 16384,
    resume: Annotated[
        bool, typer.Option(help="Keep the finished cells in the output folder.")
    ] = True,
    strict: Annotated[
        bool, typer.Option(help="Refuse items that an instruction cannot word.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Score tasks under every instruction of their type; write results and one offline page."""
    loaded_tasks = [Task.load(path) for path in tasks]
    instruction_set = InstructionSet.load(instructions)
    network, tokenizer = load_with_expert(model, expert)
    name = model_name or expert_name(expert or model)
    report = evaluate(
        network,
        tokenizer,
        loaded_tasks,
        instruction_set,
        model_name=name,
        model_family=model_family or name,
        output=output,
        preset=preset,
        wrapper=wrapper,
        max_batch_tokens=max_batch_tokens,
        resume=resume,
        strict=strict,
    )
    page = write_page(output / "report.html", load_reports(output))
    save_resolved(ctx, output)
    Console().print(summary_table(report))
    typer.echo(f"wrote {page}")


def summary_table(report: Report) -> Table:
    """Tabulate the mean value by task, for seen and for unseen instructions."""
    table = Table(title=f"{report.model_name}: mean over instructions")
    for column in ("task", "items", "seen", "unseen", "worst instruction"):
        table.add_column(column, justify="left" if column == "task" else "right")
    for task in report.tasks:
        summary = report.summary(task)
        rows = summary.instructions
        table.add_row(
            task,
            str(summary.item_count),
            _mean([row.value for row in rows if row.seen]),
            _mean([row.value for row in rows if not row.seen]),
            f"{summary.worst.instruction_id} {summary.worst.value:.3f}",
        )
    return table


def _mean(values: list[float]) -> str:
    return f"{sum(values) / len(values):.3f}" if values else "none"
