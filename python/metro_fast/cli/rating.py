"""The ratings of models in searches from the command line: a loss on texts, or an accuracy."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import typer

from metro_fast._memory import read_large
from metro_fast._shown import quoted, shown
from metro_fast.cli.unused import refuse_unused
from metro_fast.errors import MetroFastError
from metro_fast.prompts import (
    Instruction,
    InstructionSet,
    Prompt,
    Reject,
    RejectError,
    Task,
    by_reason,
    render_items,
)
from metro_fast.scoring import accuracy, score_choices
from metro_fast.tuning import PairLoss, read_pairs

_logger = logging.getLogger(__name__)

ModelOption = Annotated[str, typer.Option(help="Folder (or Hub name) of the model and tokenizer.")]
ExamplesOption = Annotated[
    Path | None,
    typer.Option(help='JSONL file of {"input": text, "target": text}, to rate by the loss on it.'),
]
TasksOption = Annotated[
    list[Path] | None,
    typer.Option(help="JSONL file of items with choices, to rate by accuracy; may be repeated."),
]
InstructionsOption = Annotated[
    Path | None, typer.Option(help="With --tasks: YAML or JSON file of instructions.")
]
StrictOption = Annotated[
    bool, typer.Option(help="With --tasks: refuse items that an instruction cannot word.")
]
MaxInputLengthOption = Annotated[
    int, typer.Option(help="Number of tokens to which longer inputs are cut.", min=2)
]


@dataclass(frozen=True)
class Rating:
    """A way to rate models.

    Attributes:
        score: Returns the score of a model.
        higher_is_better: Whether a higher score is better.
        description: What the scores measure, in words.
        about: What the scores depend on besides the model.
    """

    score: Callable[[Any], float]
    higher_is_better: bool
    description: str
    about: dict[str, Any]


def refuse_without_tasks(ctx: typer.Context, tasks: Sequence[Path] | None) -> None:
    """Refuse the options that only a rating by tasks reads, where there are no tasks.

    Args:
        ctx: The running command.
        tasks: What was given as `--tasks`.

    Raises:
        MetroFastError: If such an option was given; the message names it.
    """
    if not tasks:
        refuse_unused(ctx, "instructions", "strict", without="--tasks")


def make_rating(
    tokenizer: Any,
    *,
    examples: Path | None,
    tasks: Sequence[Path] | None,
    instructions: Path | None,
    max_input_length: int,
    strict: bool = False,
) -> Rating:
    """Read the examples or tasks by which a search rates models.

    An item is left out where an instruction cannot word it as a choice; a warning and the rating's
    `about` count these by reason.

    Args:
        tokenizer: The tokenizer of the model.
        examples: JSONL file of inputs and targets.
        tasks: JSONL files of items with choices, instead of examples.
        instructions: File of instructions that word the items.
        max_input_length: Number of tokens to which longer inputs are cut.
        strict: Raise the first item that cannot be worded as an error.

    Raises:
        MetroFastError: If not exactly one of examples and tasks is given, or a task has no
            instruction, or an instruction can word none of its items.
        RejectError: If `strict` and an item cannot be worded.
        FormatError: If a file has the wrong format.
        OSError: If a file cannot be read.
    """
    if (examples is None) == (not tasks):
        raise MetroFastError("give either --examples or --tasks, by which models are rated")
    about: dict[str, Any] = {"max_input_length": max_input_length}
    if examples is not None:
        pairs = read_pairs(examples)
        about["examples"] = hashlib.sha256(read_large(examples)).hexdigest()
        loss = PairLoss(tokenizer, pairs, max_input_length=max_input_length)
        return Rating(loss, False, f"mean loss in nats per token on {len(pairs)} examples", about)
    if instructions is None:
        raise MetroFastError("--tasks needs --instructions, which put the items into words")
    loaded, wordings = [Task.load(path) for path in tasks or ()], InstructionSet.load(instructions)
    cells = [(task, wording) for task in loaded for wording in wordings.for_task(task.task_type)]
    for task in loaded:
        if not wordings.for_task(task.task_type):
            raise MetroFastError(
                f"{instructions} has no instruction of type {quoted(task.task_type)}, which the "
                f"task {task.name} needs"
            )
    about["tasks"] = [task.sha256 for task in loaded]
    about["instructions"] = wordings.sha256
    rows, rejects = _worded(cells, strict)
    if rejects:
        about["left_out"] = by_reason(rejects)
    rendered = [
        ([p.input for p in row], [p.choices for p in row], [_place(p) for p in row]) for row in rows
    ]

    def score(model: Any) -> float:
        return mean(
            accuracy(
                score_choices(model, tokenizer, texts, choices, max_input_length=max_input_length),
                answers,
            )
            for texts, choices, answers in rendered
        )

    count = sum(map(len, rows))
    description = f"accuracy, mean over {len(cells)} instructions ({count} questions)"
    return Rating(score, True, description, about)


def _worded(
    cells: Sequence[tuple[Task, Instruction]], strict: bool
) -> tuple[list[list[Prompt]], list[Reject]]:
    """The prompts of each cell that have choices, and what is left out."""
    rows: list[list[Prompt]] = []
    rejects: list[Reject] = []
    for task, wording in cells:
        found = render_items(wording, task, strict=strict)
        free = [
            Reject(item.id, "answered by free text", f"the answer is {quoted(prompt.target)}")
            for item, prompt in zip(found.items, found.prompts, strict=True)
            if prompt.answer is None
        ]
        where = f"task {quoted(task.name)}, instruction {quoted(wording.id)}"
        if free and strict:
            raise RejectError(
                f"{where}, item {quoted(free[0].item_id)} has no choices: "
                f"{shown(free[0].detail, 500)}; give tasks whose items have choices",
                free[0],
            )
        cell = [*found.rejects, *free]
        rows.append([prompt for prompt in found.prompts if prompt.answer is not None])
        if not rows[-1]:
            raise MetroFastError(
                f"{where}: no item can be worded as a choice; the first reason: {cell[0].reason}, "
                f"{shown(cell[0].detail, 500)}"
            )
        rejects += cell
        if cell:
            _logger.warning(
                "%s, %s: %d of %d items are left out, because the instruction cannot word them as "
                "a choice (%s)",
                task.name, wording.id, len(cell), len(task),
                ", ".join(f"{reason}: {count}" for reason, count in by_reason(cell).items()),
            )  # fmt: skip
    return rows, rejects


def _place(prompt: Prompt) -> int:
    assert prompt.answer is not None  # others are left out
    return prompt.answer
