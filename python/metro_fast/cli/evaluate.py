"""`metro-fast evaluate`: ask models tasks under instructions, and write the report."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.table import Table

from metro_fast._pretrained import load_tokenizer
from metro_fast._shown import quoted
from metro_fast.cli import evaluate_options as options
from metro_fast.cli.config import ConfigOption, save_resolved
from metro_fast.cli.console import plain_console
from metro_fast.cli.evaluate_models import model_names, pick_device
from metro_fast.cli.unused import refuse_unused
from metro_fast.errors import MetroFastError
from metro_fast.prompts import FewShot, InstructionSet, Task, unknown_family_warning
from metro_fast.robustness import (
    Report,
    evaluate_experts,
    load_model,
    load_reports,
    read_cards,
    write_page,
    write_samples,
)
from metro_fast.robustness.owned import owned_output
from metro_fast.robustness.ranks import Ranks
from metro_fast.robustness.study.swapping import Source, find_source
from metro_fast.scoring import PROTOCOLS, AnswerStore

if TYPE_CHECKING:
    from transformers import PreTrainedModel

app = typer.Typer(add_completion=False)
_logger = logging.getLogger(__name__)


@app.command()
def evaluate_command(
    ctx: typer.Context,
    model: options.ModelOption,
    tasks: options.TasksOption,
    instructions: options.InstructionsOption,
    output: options.OutputOption,
    expert: options.ExpertOption = None,
    with_base: options.WithBaseOption = False,
    original: options.OriginalOption = "",
    merged: options.MergedOption = None,
    seen_tasks: options.SeenTasksOption = None,
    model_name: options.ModelNameOption = "",
    model_family: options.ModelFamilyOption = "",
    preset: options.PresetOption = "metro_t0",
    wrapper: options.WrapperOption = "plain",
    few_shot: options.FewShotOption = 0,
    examples: options.ExamplesOption = None,
    few_shot_seed: options.FewShotSeedOption = 0,
    limit: options.LimitOption = None,
    max_new_tokens: options.MaxNewTokensOption = None,
    max_batch_tokens: options.MaxBatchTokensOption = 16384,
    device: options.DeviceOption = "auto",
    store: options.StoreOption = None,
    log_samples: options.LogSamplesOption = False,
    resume: options.ResumeOption = True,
    strict: options.StrictOption = False,
    config: ConfigOption = None,
) -> None:
    """Ask tasks under every instruction of their type; write results and one offline page.

    A study of a base and its experts: --expert full --expert small --with-base --original full
    """
    experts = expert or []
    _refuse_unread(ctx, few_shot, preset, experts)
    ctx.with_resource(owned_output(output))
    loaded = [_drawn(Task.load(path), limit) for path in tasks]
    instruction_set = InstructionSet.load(instructions)
    names = model_names(model, experts, model_name, with_base=with_base)
    chosen = names[-len(experts) :] if experts else []
    named = _named_experts(dict(zip(experts, chosen, strict=True)), original, merged or [])
    ranks = Ranks.current()
    if ranks.is_first:
        _warn_if_unknown(instruction_set, model_family, names)
    answers = None if store is None else AnswerStore(store)
    sources = {name: find_source(path) for name, path in zip(chosen, experts, strict=True)}
    tokenizer = load_tokenizer(model)

    def load() -> "PreTrainedModel":
        return load_model(model).eval().to(pick_device(device))

    study = evaluate_experts(
        load(),
        tokenizer,
        loaded,
        instruction_set,
        sources,
        base_name=_base_name(model, names, with_base=with_base or not experts),
        model_family=model_family,
        with_base=with_base or not experts,
        originals={name: named[0] for name in chosen if _is_made_from(sources, name, named[0])},
        merged=named[1],
        seen_tasks=dict.fromkeys(chosen or names, tuple(seen_tasks or ())),
        output=output,
        reload=load,
        preset=preset,
        wrapper=wrapper,
        few_shot=_shots(loaded, few_shot, examples or [], few_shot_seed),
        max_new_tokens=max_new_tokens,
        max_batch_tokens=max_batch_tokens,
        store=answers,
        resume=resume,
        strict=strict,
    )
    if not ranks.is_first:
        return
    save_resolved(ctx, output, beside_others=True)
    for report in (member.report for member in study.members):
        if log_samples:
            write_samples(report, output)
        plain_console().print(summary_table(report))
    if answers is not None:
        typer.echo(f"{store}: {answers.hits} answers were known, {answers.misses} were new")
    page, cards = output / "report.html", read_cards(output).values()
    typer.echo(f"wrote {write_page(page, load_reports(output), cards=cards)}")


def _refuse_unread(ctx: typer.Context, few_shot: int, preset: str, experts: Sequence[str]) -> None:
    if not few_shot:
        refuse_unused(ctx, "few_shot_seed", without="--few-shot")
    if not PROTOCOLS[preset].generate:
        refuse_unused(ctx, "max_new_tokens", without="--preset generate_match")
    if not experts:
        refuse_unused(ctx, "with_base", "original", "merged", without="--expert")


def _named_experts(
    names: dict[str, str], original: str, merged: Sequence[str]
) -> tuple[str, list[str]]:
    """The names of the expert at full size and of the merged ones, from what was given."""
    for flag, given in (("--original", [original] if original else []), ("--merged", merged)):
        for each in given:
            if each not in names:
                raise MetroFastError(
                    f"{flag} is {quoted(each)}, which is not given as --expert: give one of "
                    f"{', '.join(names)}"
                )
    return names.get(original, ""), [names[each] for each in merged]


def _is_made_from(sources: Mapping[str, Source], name: str, original: str) -> bool:
    """Whether an expert is a compressed one, and there is one at full size."""
    return bool(original) and name != original and sources[name].expert is not None


def _base_name(model: str, names: Sequence[str], *, with_base: bool) -> str:
    """The name of the base, also where it is not asked by itself."""
    return names[0] if with_base else model_names(model, [], "")[0]


def _warn_if_unknown(instructions: InstructionSet, model_family: str, names: list[str]) -> None:
    """Warn of a family that no instruction knows; without one given, only if some is known."""
    for family in [model_family] if model_family else names:
        warning = unknown_family_warning(instructions, family)
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
                f"--few-shot {count} needs examples for task {quoted(task.name)}: give --examples "
                "a file of that task, of another split"
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
        left_out = summary.task_item_count - summary.item_count
        table.add_row(
            task,
            summary.metric_label,
            f"{summary.item_count} ({left_out} not worded)"
            if left_out
            else f"{summary.item_count}",
            _shown(summary.seen_mean),
            _shown(summary.unseen_mean),
            f"{summary.worst.instruction_id} {summary.worst.value:.3f}",
        )
    return table


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
