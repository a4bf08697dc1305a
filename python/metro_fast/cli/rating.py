"""What a search from the command line rates models by: a loss on texts, or accuracy on tasks."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import typer

from metro_fast.errors import MetroFastError
from metro_fast.prompts import InstructionSet, Task
from metro_fast.scoring import accuracy, score_choices
from metro_fast.tuning import PairLoss, read_pairs

ModelOption = Annotated[str, typer.Option(help="Folder (or Hub name) of the model and tokenizer.")]
ExamplesOption = Annotated[
    Path | None,
    typer.Option(help='JSONL file of {"input": text, "target": text}: rate by the loss on them.'),
]
TasksOption = Annotated[
    list[Path] | None,
    typer.Option(help="JSONL file of items with choices: rate by accuracy; may be repeated."),
]
InstructionsOption = Annotated[
    Path | None, typer.Option(help="With --tasks: YAML or JSON file of instructions.")
]
MaxInputLengthOption = Annotated[
    int, typer.Option(help="Longer inputs are cut to this many tokens.", min=2)
]


@dataclass(frozen=True)
class Rating:
    """How models are rated.

    Attributes:
        score: Rates a model.
        higher_is_better: Whether a higher score is better.
        what: In words, for the page.
        about: What the scores depend on beside the model.
    """

    score: Callable[[Any], float]
    higher_is_better: bool
    what: str
    about: dict[str, Any]


def make_rating(
    tokenizer: Any,
    *,
    examples: Path | None,
    tasks: Sequence[Path] | None,
    instructions: Path | None,
    max_input_length: int,
) -> Rating:
    """Read the examples or tasks that a search rates models by.

    Args:
        tokenizer: Of the model.
        examples: JSONL file of inputs and targets.
        tasks: JSONL files of items with choices, instead.
        instructions: Their wordings.
        max_input_length: Longer inputs are cut.

    Raises:
        MetroFastError: If it is not one of both, or a task has no instruction.
        FormatError: If a file is not what it should be.
        OSError: If one cannot be read.
    """
    if (examples is None) == (not tasks):
        raise MetroFastError("give either --examples or --tasks: what models are rated by")
    about: dict[str, Any] = {"max_input_length": max_input_length}
    if examples is not None:
        pairs = read_pairs(examples)
        about["examples"] = hashlib.sha256(examples.read_bytes()).hexdigest()
        loss = PairLoss(tokenizer, pairs, max_input_length=max_input_length)
        return Rating(loss, False, f"mean loss, nats a token, on {len(pairs)} examples", about)
    if instructions is None:
        raise MetroFastError("--tasks needs --instructions: how the items are put into words")
    loaded, wordings = [Task.load(path) for path in tasks or ()], InstructionSet.load(instructions)
    cells = [(task, wording) for task in loaded for wording in wordings.for_task(task.task_type)]
    for task in loaded:
        if not wordings.for_task(task.task_type):
            raise MetroFastError(f"{instructions} has no instruction of type {task.task_type!r}")
    about["tasks"] = [task.sha256 for task in loaded]
    about["instructions"] = wordings.sha256
    rendered = [
        ([wording.render(item) for item in task], [item.choices for item in task],
         [item.answer for item in task])
        for task, wording in cells
    ]  # fmt: skip

    def score(model: Any) -> float:
        return mean(
            accuracy(
                score_choices(model, tokenizer, texts, choices, max_input_length=max_input_length),
                answers,
            )
            for texts, choices, answers in rendered
        )

    count = sum(len(task) for task, _ in cells)
    what = f"accuracy, mean over {len(cells)} instructions ({count} questions)"
    return Rating(score, True, what, about)
