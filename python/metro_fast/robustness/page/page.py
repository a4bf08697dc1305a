"""One offline HTML page about a model, or about several models on the same tasks."""

import os
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path

from metro_fast._atomic import write_atomically
from metro_fast._page import document
from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.robustness.compare import compare, why_not_pairable
from metro_fast.robustness.comparison import Comparison
from metro_fast.robustness.page.closing import (
    READING,
    curves_section,
    provenance_section,
    sizes_section,
)
from metro_fast.robustness.page.task_section import TaskView
from metro_fast.robustness.page.text import headline
from metro_fast.robustness.report import Report
from metro_fast.robustness.report_folder import distinguished

__all__ = ["write_page"]


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

    The page is one file that loads nothing. Every number is shown with its model, items, protocol
    and n; models are compared on the tasks that they share, cell by cell.

    Args:
        path: File to write.
        reports: At least one report; those of one model name are renamed (`distinguished`). The
            headline is about the first.
        title: Heading of the page; by default "Instruction robustness of" and the models' names.
        baselines: By task name: label and value (0 to 1) of lines to draw in addition to chance
            and the best constant answer, for instance `{"qa": {"never reads the question": 0.5}}`.
        artifacts: Labels and bytes on disk, in the order in which they are shown. The size of an
            artifact whose label is a model's name is also shown with that model.
        curves: By heading of a chart: name and (x, y) points of each curve.
        pairs: Names of the models to compare, (reference, other). By default each model is compared
            with the first and with the previous one, as in base, expert, compressed expert, on
            the tasks that both were asked in the same way; the page says where they were not.

    Returns:
        The path.

    Raises:
        MetroFastError: If there are no reports, a pair has an unknown name or no common task, a
            baseline has an unknown task or is not from 0 to 1, a size is negative, or two reports
            of a pair disagree on the items or instructions of a shared task.
        MissingExtraError: If scipy is not installed.
        OSError: If the file cannot be written.

    Example:
        >>> write_page("page.html", [base, expert], title="Base and expert")  # doctest: +SKIP
        PosixPath('page.html')
    """
    baselines, artifacts, curves = baselines or {}, artifacts or {}, curves or {}
    _check(reports, baselines, artifacts)
    reports = distinguished(reports)
    comparisons, reasons = _compare_pairs(reports, pairs)
    tasks = [
        TaskView.of(
            task, reports, comparisons, reasons.get(task, ()), baselines.get(task, {}), artifacts
        )
        for task in dict.fromkeys(task for report in reports for task in report.tasks)
    ]
    names = ", ".join(report.model_name for report in reports)
    html = document(
        f"Instruction robustness of {names}" if title is None else title,
        headline(reports[0]),
        [
            *(task.section() for task in tasks),
            *([sizes_section(artifacts)] if artifacts else []),
            *([curves_section(curves)] if curves else []),
            READING,
            provenance_section(reports),
        ],
        extra="".join(task.tiles() for task in tasks),
        style=_style(),
    )
    return write_atomically(path, html)


@cache
def _style() -> str:
    folder = resources.files("metro_fast.robustness.page")
    return folder.joinpath("page.css").read_text(encoding="utf-8")


def _check(
    reports: Sequence[Report],
    baselines: Mapping[str, Mapping[str, float]],
    artifacts: Mapping[str, int],
) -> None:
    if not reports:
        raise MetroFastError("reports is empty, expected at least one report")
    tasks = {task for report in reports for task in report.tasks}
    for task, lines in baselines.items():
        if task not in tasks:
            raise MetroFastError(
                f"baselines has the task {quoted(task)}, but no report has a task {quoted(task)}: "
                f"the tasks are {', '.join(sorted(tasks))}"
            )
        for label, value in lines.items():
            if not 0 <= value <= 1:
                raise MetroFastError(
                    f"baseline {quoted(label)} of {quoted(task)} is {value}, expected a value from "
                    "0 to 1"
                )
    for label, size in artifacts.items():
        if size < 0:
            raise MetroFastError(f"artifact {quoted(label)} has {size} bytes, expected 0 or more")


def _compare_pairs(
    reports: Sequence[Report], pairs: Sequence[tuple[str, str]] | None
) -> tuple[list[Comparison], dict[str, list[str]]]:
    """The comparisons of pairs, and by task why some of the default pairs were not compared."""
    by_name = {report.model_name: report for report in reports}
    names = list(by_name)
    each = [(names[i], names[k]) for k in range(1, len(names)) for i in (0, k - 1)]
    comparisons: list[Comparison] = []
    reasons: dict[str, list[str]] = {}
    for first, second in dict.fromkeys(each) if pairs is None else pairs:
        for name in (first, second):
            if name not in by_name:
                raise MetroFastError(
                    f"pairs: no report is of {quoted(name)}, expected one of {', '.join(names)}"
                )
        shared = [task for task in by_name[first].tasks if task in by_name[second].tasks]
        if pairs is not None and not shared:
            raise MetroFastError(
                f"pairs: {quoted(first)} and {quoted(second)} have no task in common to compare"
            )
        for task in list(shared) if pairs is None else ():
            reason = why_not_pairable(by_name[first], by_name[second], task)
            if reason is not None:
                shared.remove(task)
                reasons.setdefault(task, []).append(f"{second} and {first}: {reason}")
        if shared:
            comparisons.append(compare(by_name[first], by_name[second], tasks=shared))
    return comparisons, reasons
