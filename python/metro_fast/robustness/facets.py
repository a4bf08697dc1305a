"""Tasks of one kind together, and the gap of tasks that a model was trained with."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from metro_fast._extras import require
from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.robustness.report import Report
from metro_fast.robustness.scale import OnScale
from metro_fast.robustness.statistics import Interval, holm, normal_quantile
from metro_fast.robustness.summary import TaskSummary

__all__ = ["Facet", "TaskGap", "adjusted_gaps", "facets", "pooled", "task_gap"]


class Facet(NamedTuple):
    """The tasks of one kind, such as `re` or `qa`, on one scale; each task counts the same.

    `scaled` is the mean over tasks of `TaskSummary.scaled`, whose parts are None where those of a
    task are. Standard deviations are means of those within tasks, never of all tasks' values
    together.
    """

    task_type: str
    tasks: tuple[str, ...]
    metric: str
    scaled: OnScale
    drop_rate: float | None


class TaskGap(NamedTuple):
    """Mean over seen minus mean over unseen tasks, on the scale where 0 is guessing.

    The tasks are the units of the interval and of p, which are Welch's; with one task on a side
    both are None.
    """

    seen_mean: float
    unseen_mean: float
    gap: float
    interval: Interval | None
    p_value: float | None
    seen_count: int
    unseen_count: int


def facets(report: Report) -> tuple[Facet, ...]:
    """The tasks of a report by their kind.

    Args:
        report: A report.

    Returns:
        One facet for each kind of task, in the report's order.

    Raises:
        MetroFastError: If the tasks of a kind must not be averaged (`pooled`).
        MissingExtraError: If scipy is not installed.
    """
    kinds: dict[str, list[str]] = {}
    for cell in report.cells:
        names = kinds.setdefault(cell.record.task_type, [])
        if cell.record.task not in names:
            names.append(cell.record.task)
    return tuple(
        pooled([report.summary(name) for name in names], kind) for kind, names in kinds.items()
    )


def pooled(summaries: Sequence[TaskSummary], task_type: str = "") -> Facet:
    """The mean over tasks of one model.

    Args:
        summaries: At least one task.
        task_type: Name of what they have in common.

    Returns:
        The facet.

    Raises:
        MetroFastError: If the tasks differ in model, protocol, metric, split or instructions, which
            must not be mixed in one average.

    Example:
        >>> pooled([report.summary(task) for task in report.tasks])  # doctest: +SKIP
    """
    if not summaries:
        raise MetroFastError("summaries is empty, expected at least one task")
    first = summaries[0]
    for other in summaries[1:]:
        for label, ours, theirs in (
            ("model", first.model_hash, other.model_hash),
            ("preset", first.preset, other.preset),
            ("metric", first.metric, other.metric),
            ("split", first.split, other.split),
            ("instructions", _ids(first), _ids(other)),
        ):
            if ours != theirs:
                raise MetroFastError(
                    f"tasks {quoted(first.task)} and {quoted(other.task)} differ in {label} "
                    f"({ours} and {theirs}), which must not be mixed in one average: "
                    "show them apart"
                )
    scaled = [summary.scaled for summary in summaries]
    means = {name: _mean([getattr(s, name) for s in scaled]) for name in OnScale._fields}
    return Facet(
        task_type,
        tuple(summary.task for summary in summaries),
        first.metric,
        OnScale(
            float(np.mean([s.mean for s in scaled])),
            float(np.mean([s.worst for s in scaled])),
            means["sigma"],
            means["relative_sigma"],
            means["logit_sigma"],
        ),
        _mean([summary.over_wordings.drop_rate for summary in summaries]),
    )


def task_gap(
    values: Mapping[str, float], seen: Collection[str], *, confidence: float = 0.95
) -> TaskGap:
    """The gap of seen and unseen tasks.

    Args:
        values: By name of task its chance-corrected mean, `TaskSummary.scaled.mean`.
        seen: Names of the tasks that the model was trained with.
        confidence: Coverage of the interval.

    Returns:
        The gap, by Welch's t over tasks.

    Raises:
        MetroFastError: If all tasks are of one kind.
        MissingExtraError: If scipy is not installed.

    Example:
        >>> gap = task_gap({"a": 0.8, "b": 0.7, "c": 0.5, "d": 0.5}, ["a", "b"])
        >>> round(gap.gap, 2), gap.p_value < 0.15
        (0.25, True)
    """
    normal_quantile(confidence)
    ours = [value for name, value in values.items() if name in seen]
    theirs = [value for name, value in values.items() if name not in seen]
    if not ours or not theirs:
        raise MetroFastError(
            f"{len(ours)} of {len(values)} tasks are seen: a gap needs both seen and unseen tasks"
        )
    means = float(np.mean(ours)), float(np.mean(theirs))
    gap, counts = means[0] - means[1], (len(ours), len(theirs))
    if min(counts) < 2:
        return TaskGap(*means, gap, None, None, *counts)
    parts = [float(np.var(side, ddof=1)) / len(side) for side in (ours, theirs)]
    error = math.sqrt(sum(parts))
    if error == 0:
        return TaskGap(*means, gap, Interval(gap, gap), float(gap == 0), *counts)
    degrees = sum(parts) ** 2 / sum(
        part**2 / (count - 1) for part, count in zip(parts, counts, strict=True)
    )
    special = require("scipy.special", "eval")
    half = error * float(special.stdtrit(degrees, 0.5 + confidence / 2))
    p = float(2 * special.stdtr(degrees, -abs(gap) / error))
    return TaskGap(*means, gap, Interval(gap - half, gap + half), p, *counts)


def adjusted_gaps(report: Report) -> dict[str, float]:
    """The p of the seen/unseen gap of each task that has one, by Holm's correction over tasks.

    Args:
        report: A report.

    Returns:
        By name of task; tasks without a test are left out, and not counted.

    Raises:
        MissingExtraError: If scipy is not installed.
    """
    found = {}
    for task in report.tasks:
        gap = report.summary(task).gap
        if gap is not None and gap.p_value is not None:
            found[task] = gap.p_value
    return dict(zip(found, holm(list(found.values())), strict=True))


def _ids(summary: TaskSummary) -> tuple[str, ...]:
    return tuple(sorted(row.instruction_id for row in summary.instructions))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None
