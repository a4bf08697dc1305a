"""The ratings of models in searches from the command line: a loss on texts, or an accuracy."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import typer

from metro_fast.errors import MetroFastError
from metro_fast.prompts import InstructionSet, Prompt, Task
from metro_fast.scoring import accuracy, score_choices
from metro_fast.tuning import PairLoss, read_pairs

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


def make_rating(
    tokenizer: Any,
    *,
    examples: Path | None,
    tasks: Sequence[Path] | None,
    instructions: Path | None,
    max_input_length: int,
) -> Rating:
    """Read the examples or tasks by which a search rates models.

    Args:
        tokenizer: The tokenizer of the model.
        examples: JSONL file of inputs and targets.
        tasks: JSONL files of items with choices, instead of examples.
        instructions: File of instructions that word the items.
        max_input_length: Number of tokens to which longer inputs are cut.

    Raises:
        MetroFastError: If not exactly one of examples and tasks is given, or a task has no
            instruction, or an instruction cannot word an item with choices.
        FormatError: If a file has the wrong format.
        OSError: If a file cannot be read.
    """
    if (examples is None) == (not tasks):
        raise MetroFastError("give either --examples or --tasks, by which models are rated")
    about: dict[str, Any] = {"max_input_length": max_input_length}
    if examples is not None:
        pairs = read_pairs(examples)
        about["examples"] = hashlib.sha256(examples.read_bytes()).hexdigest()
        loss = PairLoss(tokenizer, pairs, max_input_length=max_input_length)
        return Rating(loss, False, f"mean loss in nats per token on {len(pairs)} examples", about)
    if instructions is None:
        raise MetroFastError("--tasks needs --instructions, which put the items into words")
    loaded, wordings = [Task.load(path) for path in tasks or ()], InstructionSet.load(instructions)
    cells = [(task, wording) for task in loaded for wording in wordings.for_task(task.task_type)]
    for task in loaded:
        if not wordings.for_task(task.task_type):
            raise MetroFastError(
                f"{instructions} has no instruction of type {task.task_type!r}, which the task "
                f"{task.name} needs"
            )
    about["tasks"] = [task.sha256 for task in loaded]
    about["instructions"] = wordings.sha256
    prompts = [[wording.render(item) for item in task] for task, wording in cells]
    rendered = [
        ([p.input for p in row], [p.choices for p in row], [_place(task, p) for p in row])
        for (task, _), row in zip(cells, prompts, strict=True)
    ]

    def score(model: Any) -> float:
        return mean(
            accuracy(
                score_choices(model, tokenizer, texts, choices, max_input_length=max_input_length),
                answers,
            )
            for texts, choices, answers in rendered
        )

    count = sum(len(task) for task, _ in cells)
    description = f"accuracy, mean over {len(cells)} instructions ({count} questions)"
    return Rating(score, True, description, about)


def _place(task: Task, prompt: Prompt) -> int:
    """Index of the right choice, which an item that is answered by free text does not have."""
    if prompt.answer is None:
        raise MetroFastError(
            f"task {task.name!r} has an item without choices, whose answer is {prompt.target!r}; "
            "give tasks whose items have choices"
        )
    return prompt.answer
