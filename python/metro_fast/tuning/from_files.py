"""Prompted finetuning from files: the items of tasks, put into words by instructions."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch

from metro_fast._atomic import write_atomically
from metro_fast._pretrained import load_seq2seq, load_tokenizer
from metro_fast._ranges import check_at_least
from metro_fast._training.run_folder import RunFolder
from metro_fast.errors import MetroFastError
from metro_fast.prompts import (
    Examples,
    InstructionSet,
    Task,
    by_reason,
    render_examples,
)
from metro_fast.tuning.options import TuningOptions
from metro_fast.tuning.seq2seq import finetune_model

logger = logging.getLogger(__name__)
WORDED = "worded.json"
FREE = frozenset(
    {
        "output",
        "resume",
        "strict",
        "num_threads",
        "steps",
        "logging_steps",
        "save_steps",
        "evaluation_steps",
    }
)
"""Settings that a resumed run may change: its length, how it reports and saves, what it refuses."""


@dataclass(frozen=True, kw_only=True, repr=False)
class FinetuneConfig(TuningOptions):
    """Finetune a seq2seq model on tasks worded by instructions, in full or by LoRA.

    Attributes:
        model: Folder (or cached Hub name) of the model and its tokenizer.
        tasks: JSONL files of task items (`metro_fast.prompts.Task`).
        instructions: YAML or JSON file of instructions (`metro_fast.prompts.InstructionSet`).
        output: Folder for the result; with LoRA it is a plain PEFT adapter.
        evaluation_tasks: JSONL files of held-out items.
        seen_by: Use only the instructions that this model family was trained with; empty means all.
        instructions_per_item: How many wordings each item gets. An item that fewer instructions can
            word is left out.
        strict: Refuse an item that an instruction drawn for it cannot word.
        num_threads: CPU threads; 0 leaves torch's choice.
        resume: Continue the run in the output folder. The settings must be those of the run, but
            `steps` may be larger, and the intervals may be others.
    """

    model: str
    tasks: list[Path]
    instructions: Path
    output: Path
    evaluation_tasks: list[Path] = field(default_factory=list)
    seen_by: str = ""
    instructions_per_item: int = 1
    strict: bool = False
    num_threads: int = 0
    resume: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("tasks", "evaluation_tasks"):
            if isinstance(getattr(self, name), str | Path):
                raise TypeError(f"{name} is {getattr(self, name)!r}, expected a list of files")
        if not self.tasks:
            raise MetroFastError("tasks is empty, expected at least one JSONL file")
        check_at_least(0, num_threads=self.num_threads)


def finetune(config: FinetuneConfig) -> Path:
    """Run `finetune_model` on files.

    Everything is read and checked before training starts. A warning counts by reason what the
    instructions cannot word, and `worded.json` in the output has these counts for each task.

    Args:
        config: The settings; they are written to `resolved_config.yaml` in the output.

    Returns:
        The output folder.

    Raises:
        MetroFastError: If settings, items, instructions, tokenizer or model do not fit together.
        RejectError: If `strict` and a drawn instruction cannot word its item.
        OSError: If a file cannot be read or the output cannot be written.
        KeyboardInterrupt: If stopped by Ctrl-C or SIGTERM; `resume=True` continues.
    """
    with RunFolder.owned(config.output, resume=config.resume) as run:
        _finetune(config, run)
    return config.output


def _finetune(config: FinetuneConfig, run: RunFolder) -> None:
    instructions = InstructionSet.load(config.instructions)
    if config.seen_by:
        instructions = _seen(instructions, config)
    pairs, trained = _render(config.tasks, instructions, config)
    held_out, evaluated = _render(config.evaluation_tasks, instructions, config)
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    tokenizer, model = load_tokenizer(config.model), load_seq2seq(config.model)
    # The recorded path is absolute, so that the run may be resumed from another folder; the
    # adapter's configuration names the model as the caller did.
    folder = Path(config.model)
    settings = replace(config, model=str(folder.absolute())) if folder.is_dir() else config
    run.record(settings, free=FREE, steps=("steps", config.steps))
    worded = {"tasks": trained, "evaluation_tasks": evaluated}
    write_atomically(config.output / WORDED, json.dumps(worded, indent=2) + "\n")
    finetune_model(
        model,
        tokenizer,
        pairs,
        TuningOptions(**{f.name: getattr(config, f.name) for f in fields(TuningOptions)}),
        output=config.output,
        evaluation_pairs=held_out,
        resume=config.resume,
    )


def _seen(instructions: InstructionSet, config: FinetuneConfig) -> InstructionSet:
    """The instructions that a model family was trained with, which must be one that they name."""
    families = sorted({family for each in instructions for family in each.seen_by})
    if config.seen_by not in families:
        known = f"they name {', '.join(families)}" if families else "they name none: leave it out"
        raise MetroFastError(
            f"seen_by is {config.seen_by!r}, which no instruction of {config.instructions} has in "
            f"its own seen_by; {known}"
        )
    return instructions.seen(config.seen_by)


def _render(
    paths: Sequence[Path], instructions: InstructionSet, config: FinetuneConfig
) -> tuple[list[tuple[str, str]], list[dict[str, Any]]]:
    """The examples of all tasks, and for each task what was worded and what was not."""
    pairs: list[tuple[str, str]] = []
    records: list[dict[str, Any]] = []
    for path in paths:
        task = Task.load(path)
        found = render_examples(
            task,
            instructions,
            seed=config.seed,
            instructions_per_item=config.instructions_per_item,
            strict=config.strict,
        )
        pairs += found.examples
        records.append(_record(task, found))
        if summary := found.summary():
            logger.warning("%s: of %d items, %s", task.name, len(task), summary)
    return pairs, records


def _record(task: Task, found: Examples) -> dict[str, Any]:
    return {
        "task": task.name,
        "items": len(task),
        "examples": len(found.examples),
        "left_out": by_reason(found.rejects),
        "passed_over": by_reason(found.passed_over),
    }
