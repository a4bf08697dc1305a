"""One offline HTML page that a person would rather look at than read tables."""

import functools
import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from metro_fast._atomic import write_atomically
from metro_fast._extras import require
from metro_fast.errors import MetroFastError
from metro_fast.robustness.compare import Comparison, compare
from metro_fast.robustness.page.figures import (
    Dot,
    StripRow,
    accuracy_strip,
    interval_chart,
    line_chart,
)
from metro_fast.robustness.page.text import (
    caption,
    file_size,
    gap_sentence,
    headline,
    p_value,
    percent,
    points,
    verdict_sentence,
)
from metro_fast.robustness.page.worst_cases import most_flipped, worst_example
from metro_fast.robustness.report import Report

__all__ = ["write_page"]

if TYPE_CHECKING:
    import jinja2

_PACKAGE = "metro_fast.robustness.page"


def write_page(
    path: str | os.PathLike[str],
    reports: Sequence[Report],
    *,
    title: str | None = None,
    baselines: Mapping[str, Mapping[str, float]] | None = None,
    artifacts: Mapping[str, int] | None = None,
    curves: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]] | None = None,
    pairs: Sequence[tuple[str, str]] | None = None,
) -> Path:
    """Write the page of one model, or of several on the same tasks.

    The page is one file that loads nothing. Every number stands beside model, items, protocol and
    n; models are compared on the tasks that they share, cell by cell.

    Args:
        path: File to write.
        reports: At least one; names differ. The headline is about the first.
        title: Heading of the page; by default "Instruction robustness of" and the models' names.
        baselines: For a task's name: label and accuracy (0 to 1) of lines to draw beside chance
            and the best constant answer, for instance `{"qa": {"never reads the question": 0.5}}`.
        artifacts: Label and bytes on disk, in the order to be shown; where a label is a model's
            name the two are shown together.
        curves: For a chart's heading: name and (x, y) points of each curve.
        pairs: Names of the models to compare, (reference, other); by default each is compared with
            the first and with the one before it, as in base, expert, compressed expert.

    Returns:
        The path.

    Raises:
        MetroFastError: If there is no report, two have one name, a pair names no report or two
            without a common task, a baseline is of no task or not from 0 to 1, a size is negative,
            or two reports disagree on the items or instructions of a task that they share.
        MissingExtraError: If jinja2 or scipy is not installed.
        OSError: If the file cannot be written.

    Example:
        >>> write_page("page.html", [base, expert], title="Base and expert")  # doctest: +SKIP
        PosixPath('page.html')
    """
    baselines, artifacts, curves = baselines or {}, artifacts or {}, curves or {}
    _check(reports, baselines, artifacts)
    comparisons = _compare_pairs(reports, pairs)
    tasks = tuple(dict.fromkeys(task for report in reports for task in report.tasks))
    names = ", ".join(report.model_name for report in reports)
    html = _template().render(
        title=f"Instruction robustness of {names}" if title is None else title,
        headline=headline(reports[0]),
        reports=reports,
        comparisons=comparisons,
        tasks=[_task_view(task, reports, comparisons, baselines.get(task, {})) for task in tasks],
        artifacts=_artifact_rows(artifacts),
        sizes=artifacts,
        curves=[
            (heading, list(series), line_chart(series, description=f"Curves: {heading}"))
            for heading, series in curves.items()
        ],
        style=Markup(_resource("page.css")),
    )
    return write_atomically(path, html)


def _check(
    reports: Sequence[Report],
    baselines: Mapping[str, Mapping[str, float]],
    artifacts: Mapping[str, int],
) -> None:
    if not reports:
        raise MetroFastError("reports is empty; a page needs at least 1")
    names = [report.model_name for report in reports]
    if len(set(names)) < len(names):
        raise MetroFastError(f"two reports have one model name in {', '.join(names)}; rename one")
    tasks = {task for report in reports for task in report.tasks}
    for task, lines in baselines.items():
        if task not in tasks:
            raise MetroFastError(f"baselines: no report has a task {task!r}")
        for label, value in lines.items():
            if not 0 <= value <= 1:
                raise MetroFastError(f"baseline {label!r} of {task!r} is {value}; give 0 to 1")
    for label, size in artifacts.items():
        if size < 0:
            raise MetroFastError(f"artifact {label!r} has {size} bytes")


def _compare_pairs(
    reports: Sequence[Report], pairs: Sequence[tuple[str, str]] | None
) -> list[Comparison]:
    """Each pair on the tasks that both have."""
    by_name = {report.model_name: report for report in reports}
    names = list(by_name)
    each = [(names[i], names[k]) for k in range(1, len(names)) for i in (0, k - 1)]
    comparisons = []
    for first, second in dict.fromkeys(each) if pairs is None else pairs:
        for name in (first, second):
            if name not in by_name:
                raise MetroFastError(f"pairs: no report is of {name!r}; there are {names}")
        shared = [task for task in by_name[first].tasks if task in by_name[second].tasks]
        if shared:
            comparisons.append(compare(by_name[first], by_name[second], tasks=shared))
        elif pairs is not None:
            raise MetroFastError(f"pairs: {first!r} and {second!r} have no task in common")
    return comparisons


def _task_view(
    task: str,
    reports: Sequence[Report],
    comparisons: Sequence[Comparison],
    baselines: Mapping[str, float],
) -> dict[str, object]:
    """What the template shows of a task."""
    present = [report for report in reports if task in report.tasks]
    summaries = [report.summary(task) for report in present]
    first = summaries[0]
    lines = {
        "best constant answer": first.majority_share,
        "chance": first.chance,
    } | dict(baselines)
    if first.majority_share == first.chance:
        del lines["chance"]
    rows = [
        StripRow(
            summary.model_name,
            tuple(
                Dot(
                    i.accuracy,
                    i.seen,
                    f"{i.instruction_id} ({'seen' if i.seen else 'unseen'}): "
                    f"{percent(i.accuracy)}, {i.correct} of {i.total}",
                )
                for i in summary.instructions
            ),
            summary.mean_accuracy,
        )
        for summary in summaries
    ]
    told = "; ".join(
        f"{s.model_name}: mean {percent(s.mean_accuracy)}, worst {percent(s.worst.accuracy)}, "
        f"best {percent(s.best.accuracy)}"
        for s in summaries
    )
    gaps = [(s.model_name, s.gap) for s in summaries if s.gap is not None]
    compared = [
        (c, next(t for t in c.tasks if t.task == task))
        for c in comparisons
        if any(t.task == task for t in c.tasks)
    ]
    return {
        "name": task,
        "summaries": summaries,
        "caption": caption(first),
        "strip": accuracy_strip(rows, lines, description=f"Accuracy over instructions. {told}."),
        "gaps": gaps,
        "gap_chart": interval_chart(
            [
                (name, 100 * gap.gap, 100 * gap.interval.low, 100 * gap.interval.high)
                for name, gap in gaps
            ],
            description="Accuracy on seen minus unseen instructions. "
            + " ".join(gap_sentence(name, gap) for name, gap in gaps),
        )
        if gaps
        else None,
        "instructions": {
            i.instruction_id: i.text for summary in summaries for i in summary.instructions
        },
        "by_id": [{i.instruction_id: i for i in s.instructions} for s in summaries],
        "compared": compared,
        "comparison_chart": interval_chart(
            [
                (
                    f"{c.second} minus {c.first}",
                    100 * t.difference.mean,
                    100 * t.difference.interval.low,
                    100 * t.difference.interval.high,
                )
                for c, t in compared
            ],
            margin=100 * compared[0][1].margin,
            description="Paired differences. "
            + " ".join(verdict_sentence(c, t) for c, t in compared),
        )
        if compared
        else None,
        "worst_examples": [(r.model_name, worst_example(r.task_cells(task))) for r in present],
        "flipped": [(r.model_name, most_flipped(r.task_cells(task), count=4)) for r in present],
        "cells": [r.task_cells(task)[0].record for r in present],
    }


def _artifact_rows(artifacts: Mapping[str, int]) -> list[tuple[str, int, float, str]]:
    """(label, bytes, share of the largest, how it relates to the one before)."""
    largest = max(artifacts.values(), default=0)
    rows: list[tuple[str, int, float, str]] = []
    for label, size in artifacts.items():
        note = ""
        if rows and size and rows[-1][1]:
            before, ratio = rows[-1][0], rows[-1][1] / size
            smaller = ratio >= 1
            note = (
                f"{ratio if smaller else 1 / ratio:.1f}× "  # noqa: RUF001 - a multiplication sign
                f"{'smaller' if smaller else 'larger'} than {before}"
            )
        rows.append((label, size, size / largest if largest else 0.0, note))
    return rows


@functools.cache
def _template() -> "jinja2.Template":
    engine = require("jinja2", "eval")
    environment = engine.Environment(
        autoescape=True, undefined=engine.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(percent=percent, points=points, file_size=file_size, p_value=p_value)
    environment.globals.update(gap_sentence=gap_sentence, verdict_sentence=verdict_sentence)
    template: jinja2.Template = environment.from_string(_resource("page.html.jinja"))
    return template


def _resource(name: str) -> str:
    return resources.files(_PACKAGE).joinpath(name).read_text(encoding="utf-8")
