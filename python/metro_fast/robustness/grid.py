"""The grid of tasks and instructions, worded and checked before anything is asked."""

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.prompts import (
    FewShot,
    Instruction,
    InstructionSet,
    Reject,
    RejectError,
    Rendered,
    Task,
    by_reason,
    render_items,
)
from metro_fast.robustness.worded import labels_of
from metro_fast.scoring import Protocol, find_metric

__all__ = ["WordedTask", "warn_of_rejects", "worded_grid"]

_logger = logging.getLogger(__name__)


class WordedTask(NamedTuple):
    """A task in the words of one instruction.

    Attributes:
        task: The task with all its items.
        instruction: The instruction.
        rendered: The items that it can word, their prompts, and its rejects.
        shots: Number of worked examples before each item.
    """

    task: Task
    instruction: Instruction
    rendered: Rendered
    shots: int


def worded_grid(
    tasks: Sequence[Task],
    instructions: InstructionSet,
    protocol: Protocol,
    *,
    few_shot: Mapping[str, FewShot],
    strict: bool = False,
) -> list[WordedTask]:
    """Word every task in the words of every instruction of its type.

    Args:
        tasks: At least one task; their names are unique.
        instructions: Each task needs at least one of its type.
        protocol: How the prompts will be asked.
        few_shot: Worked examples by name of task.
        strict: Raise the first item that cannot be worded as an error.

    Returns:
        Tasks and instructions in order; `warn_of_rejects` counts what cannot be worded.

    Raises:
        TypeError: If a task has another type.
        RejectError: If `strict` and an item cannot be worded, or has no choices where the protocol
            or the metric needs them.
        MetroFastError: If there are no tasks, two have one name, a task has no instruction or
            controls alone, no item can be worded by all wordings, or the labels do not fit the
            metric.
    """
    names: set[str] = set()
    grid: list[WordedTask] = []
    for task in tasks:
        if not isinstance(task, Task):
            raise TypeError(f"tasks has {quoted(task)}, which is not a Task")
        if task.name in names:
            raise MetroFastError(f"two tasks have the name {quoted(task.name)}: rename one")
        names.add(task.name)
        find_metric(task.metric).check([item.answer_text for item in task])
        usable = instructions.for_task(task.task_type)
        if not usable:
            raise MetroFastError(
                f"task {quoted(task.name)}: no instruction has its type {quoted(task.task_type)}, "
                "expected at least one"
            )
        if all(instruction.is_control for instruction in usable):
            raise MetroFastError(
                f"task {quoted(task.name)} has controls alone, which enter no average: add a "
                "wording"
            )
        worded = _worded(task, usable, protocol, few_shot.get(task.name), strict)
        for each in worded:
            _check_labels(each)
        grid += worded
    if not grid:
        raise MetroFastError("tasks is empty, expected at least one task")
    unknown = sorted(few_shot.keys() - names)
    if unknown:
        raise MetroFastError(
            f"few_shot has examples for {quoted(unknown[0])}, which is not a task; the tasks are "
            f"{', '.join(sorted(names))}"
        )
    return grid


def _worded(
    task: Task,
    instructions: InstructionSet,
    protocol: Protocol,
    shots: FewShot | None,
    strict: bool,
) -> list[WordedTask]:
    count = 0 if shots is None else shots.k
    rows = []
    for each in instructions:
        rendered = render_items(each, task, shots=shots, strict=strict)
        rendered = _askable(task, each, rendered, protocol, strict=strict)
        rows.append(WordedTask(task, each, rendered, count))
    wordings = [row for row in rows if not row.instruction.is_control]
    common = set.intersection(*({item.id for item in row.rendered.items} for row in wordings))
    if not common:
        fewest = min(wordings, key=lambda row: len(row.rendered.items))
        rejects = fewest.rendered.rejects
        first = f"; its first reason: {rejects[0].reason} ({rejects[0].detail})" if rejects else ""
        raise MetroFastError(
            f"task {quoted(task.name)}: no item can be worded by all instructions; leave out "
            f"{quoted(fewest.instruction.id)}, which words {len(fewest.rendered.items)} of "
            f"{len(task)}{first}"
        )
    for row in rows:
        if common.isdisjoint(item.id for item in row.rendered.items):
            raise MetroFastError(
                f"task {quoted(task.name)}: the control {quoted(row.instruction.id)} can word none "
                "of the "
                f"items that all wordings can ({row.rendered.rejects[0].reason}); leave it out"
            )
    return rows


def warn_of_rejects(grid: Sequence[WordedTask]) -> None:
    """Log a warning for every instruction that cannot word all items, with counts by reason."""
    left: dict[str, set[str]] = {}
    for row in grid:
        rejects = row.rendered.rejects
        if not rejects:
            continue
        if not row.instruction.is_control:
            left.setdefault(row.task.name, set()).update(r.item_id for r in rejects)
        _logger.warning(
            "%s, %s: %d of %d items cannot be worded (%s)",
            row.task.name, row.instruction.id, len(rejects), len(row.task),
            ", ".join(f"{reason}: {count}" for reason, count in by_reason(rejects).items()),
        )  # fmt: skip
    for name, ids in left.items():
        _logger.warning(
            "%s: %d items are left out of all averages, which are over the items that every "
            "wording can word", name, len(ids),
        )  # fmt: skip


def _askable(
    task: Task, instruction: Instruction, rendered: Rendered, protocol: Protocol, *, strict: bool
) -> Rendered:
    """The same, where prompts without the choices that protocol or metric need are rejects."""
    if protocol.generate and task.metric != "accuracy":
        return rendered
    reason = "no choices for accuracy" if protocol.generate else "no choices to score"
    remedy = (
        "give the task the metric exact_match, normalized_match or token_f1"
        if protocol.generate
        else "evaluate it with the preset generate_match"
    )
    free = [i for i, p in zip(rendered.items, rendered.prompts, strict=True) if not p.choices]
    found = {item.id: Reject(item.id, reason, f"it has none; {remedy}") for item in free}
    if not found:
        return rendered
    if strict:
        raise RejectError(
            f"task {quoted(task.name)}, instruction {quoted(instruction.id)}, item "
            f"{quoted(free[0].id)}: {reason}; {remedy}",
            found[free[0].id],
        )
    kept = [i for i, item in enumerate(rendered.items) if item.id not in found]
    found |= {reject.item_id: reject for reject in rendered.rejects}
    return Rendered(
        tuple(rendered.items[i] for i in kept),
        tuple(rendered.prompts[i] for i in kept),
        tuple(found[item.id] for item in task if item.id in found),
    )


def _check_labels(row: WordedTask) -> None:
    """Refuse choices that the metric cannot read, before minutes of work."""
    labels: dict[str, None] = {}
    for item, prompt in zip(row.rendered.items, row.rendered.prompts, strict=True):
        labels |= dict.fromkeys(labels_of(item, prompt))
    if labels:
        find_metric(row.task.metric).check(list(labels))
