"""The grid of tasks and instructions, worded and checked before anything is scored."""

import logging
from collections.abc import Sequence

from metro_fast.errors import MetroFastError
from metro_fast.prompts import (
    Instruction,
    InstructionSet,
    Prompt,
    Reject,
    RejectError,
    Task,
    by_reason,
)

__all__ = ["worded_grid"]

_logger = logging.getLogger(__name__)


def worded_grid(
    tasks: Sequence[Task], instructions: InstructionSet, *, strict: bool = False
) -> list[tuple[Task, Instruction, tuple[Prompt, ...]]]:
    """Word every task in the words of every instruction of its type.

    Args:
        tasks: At least one task; their names are unique.
        instructions: Each task needs at least one of its type.
        strict: Raise the first item that cannot be worded as an error.

    Returns:
        Tasks and instructions in order, with a prompt for each item. A task lacks the items that
        one of its instructions cannot word, or not as a choice among as many texts with the answer
        at the same place; a warning counts these by reason.

    Raises:
        TypeError: If a task has another type.
        RejectError: If `strict` and an item cannot be worded.
        MetroFastError: If there are no tasks, two have one name, a task has no instruction or
            controls alone, or no item is left of a task.
    """
    names: set[str] = set()
    grid: list[tuple[Task, Instruction, tuple[Prompt, ...]]] = []
    for task in tasks:
        if not isinstance(task, Task):
            raise TypeError(f"tasks has {task!r}, which is not a Task")
        if task.name in names:
            raise MetroFastError(f"two tasks have the name {task.name!r}: rename one")
        names.add(task.name)
        usable = instructions.for_task(task.task_type)
        if not usable:
            raise MetroFastError(
                f"task {task.name!r}: no instruction has its type {task.task_type!r}, expected at "
                "least one"
            )
        if all(instruction.is_control for instruction in usable):
            raise MetroFastError(
                f"task {task.name!r} has controls alone, which enter no average: add a wording"
            )
        grid += _worded(task, usable, strict)
    if not grid:
        raise MetroFastError("tasks is empty, expected at least one task")
    return grid


def _worded(
    task: Task, instructions: InstructionSet, strict: bool
) -> list[tuple[Task, Instruction, tuple[Prompt, ...]]]:
    rows: list[list[Prompt | None]] = []
    rejects: list[Reject] = []
    first: RejectError | None = None
    for instruction in instructions:
        row: list[Prompt | None] = []
        for item in task:
            try:
                prompt = instruction.render(item)
                if len(prompt.choices) != len(item.choices) or prompt.answer is None:
                    reason = "not a choice among the item's choices"
                elif prompt.answer != item.answer:
                    reason = "the answer at another place"
                else:
                    row.append(prompt)
                    continue
                message = f"instruction {instruction.id!r}, item {item.id!r}: {reason}"
                raise RejectError(message, Reject(item.id, reason))
            except RejectError as error:
                if strict:
                    raise
                first = first or error
                rejects.append(error.reject)
                row.append(None)
        rows.append(row)
    kept = [index for index in range(len(task)) if all(row[index] for row in rows)]
    if not kept:
        raise MetroFastError(
            f"task {task.name!r}: no item can be worded by all instructions; the first reason: "
            f"{first}"
        ) from first
    if rejects:
        _logger.warning(
            "%s: %d of %d items are left out, because an instruction cannot word them (%s)",
            task.name, len(task) - len(kept), len(task),
            ", ".join(f"{reason}: {count}" for reason, count in by_reason(rejects).items()),
        )  # fmt: skip
        task = Task(task.name, task.task_type, tuple(task.items[i] for i in kept), task.split)
    return [
        (task, instruction, tuple(found for i in kept if (found := row[i]) is not None))
        for instruction, row in zip(instructions, rows, strict=True)
    ]
