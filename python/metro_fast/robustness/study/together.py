"""Verdicts of several comparisons at once: a gate over twenty tasks makes twenty tests."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from metro_fast.robustness.comparison import TaskComparison
from metro_fast.robustness.paired_wordings import ERROR, InstructionComparison, lost
from metro_fast.robustness.statistics import holm
from metro_fast.robustness.verdicts import (
    BETTER,
    UNDECIDED,
    WORSE,
    Verdicts,
    fewest_items,
    judge_wordings,
)

__all__ = ["Judged", "judge_together"]


class Judged(NamedTuple):
    """A comparison among several, with its verdicts after Holm's correction.

    `adjusted_p` is that of the mean difference over all of the comparisons, `broken` are the
    instructions that are shown to have lost, corrected over those of all of them.
    """

    task: TaskComparison
    verdicts: Verdicts
    adjusted_p: float
    broken: tuple[InstructionComparison, ...]


def judge_together(tasks: Sequence[TaskComparison]) -> list[Judged]:
    """Judge several comparisons together.

    `better` and `worse` of a mean need a p below .05 by Holm's correction over the comparisons, and
    those of wordings one over all wordings of all comparisons. The spread has no p: its interval is
    that of one comparison, which is conservative (it covers .976 and more). `as robust` is a
    statement about one comparison and needs no correction; all of them hold together only if each
    one does.

    Args:
        tasks: Comparisons, of one pair of models or of several.

    Returns:
        The verdicts, in the same order; those of a single comparison are its own.

    Raises:
        MetroFastError: If a margin is out of range.
    """
    means = holm([task.p_value for task in tasks])
    words = iter(holm([row.test.p_value for task in tasks for row in task.instructions]))
    judged = []
    for task, p in zip(tasks, means, strict=True):
        rows = tuple(replace(row, adjusted_p=next(words)) for row in task.instructions)
        mean = task.verdicts.mean
        if len(tasks) > 1 and mean in (BETTER, WORSE) and p >= ERROR:
            mean = UNDECIDED
        enough = task.independent_count >= fewest_items(task.margin)
        verdicts = Verdicts(
            mean, task.verdicts.spread, judge_wordings(rows, task.margin, enough=enough)
        )
        judged.append(Judged(task, verdicts, p, lost(rows, margin=task.margin)))
    return judged
