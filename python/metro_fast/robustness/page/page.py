"""One offline HTML page about a model, or about several models on the same tasks."""

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path

from metro_fast._atomic import write_atomically
from metro_fast._page import Section, document
from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.robustness.compare import compare, why_not_pairable
from metro_fast.robustness.comparison import Comparison
from metro_fast.robustness.facets import adjusted_gaps
from metro_fast.robustness.page.closing import (
    READING,
    curves_section,
    provenance_section,
    sizes_section,
)
from metro_fast.robustness.page.details import control_section, flip_section, reading_section
from metro_fast.robustness.page.matrix import first_screen
from metro_fast.robustness.page.overview import (
    facet_section,
    folded,
    gap_section,
    scale_section,
    slope_section,
)
from metro_fast.robustness.page.task_section import TaskView
from metro_fast.robustness.page.view import Card, views
from metro_fast.robustness.page.wordings import wording_section
from metro_fast.robustness.report import Report
from metro_fast.robustness.report_folder import distinguished

__all__ = ["write_page"]

_EXAMPLES = 4
_SMALL = 12
"""Models times tasks up to which each has four examples; above, one keeps the page small."""


def write_page(
    path: str | os.PathLike[str],
    reports: Sequence[Report],
    *,
    title: str | None = None,
    baselines: Mapping[str, Mapping[str, float]] | None = None,
    artifacts: Mapping[str, int] | None = None,
    curves: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]] | None = None,
    pairs: Sequence[tuple[str, str]] | None = None,
    cards: Iterable[Card] = (),
) -> Path:
    """Write the page of one model, or of several on the same tasks.

    The first screen has a sentence for each model, and its matrix of tasks and wordings in which
    what is shown to be broken has a mark and is listed by name; the rest is folded below. The page
    is one file that loads and runs nothing. Every number is shown with its model, items, protocol
    and n; models are compared on the tasks that they share, cell by cell.

    Args:
        path: File to write.
        reports: At least one report; those of one model name are renamed (`distinguished`). The
            first is the reference of the others.
        title: Heading of the page; by default "Instruction robustness of" and the models' names.
        baselines: By task name: label and value (0 to 1) of rules to name in addition to chance
            and the best constant answer, for instance `{"qa": {"never reads the question": 0.5}}`.
        artifacts: Labels and bytes on disk, in the order in which they are shown. The size of an
            artifact whose label is a model's name is also shown with that model.
        curves: By heading of a chart: name and (x, y) points of each curve.
        pairs: Names of the models to compare, (reference, other). By default each model is compared
            with the first one, on the tasks that both were asked in the same way; the page says
            where they were not.
        cards: Names and numbers of parameters of models, for the curve over scale; without them it
            is over the bytes of `artifacts`.

    Returns:
        The path.

    Raises:
        MetroFastError: If there are no reports, a pair has an unknown name or no common task, a
            baseline has an unknown task or is not from 0 to 1, a size is negative, or two reports
            of a pair disagree on the items or instructions of a shared task.
        MissingExtraError: If scipy or matplotlib is not installed.
        OSError: If the file cannot be written.

    Example:
        >>> write_page("page.html", [base, expert], title="Base and expert")  # doctest: +SKIP
        PosixPath('page.html')
    """
    baselines, artifacts, curves = baselines or {}, artifacts or {}, curves or {}
    _check(reports, baselines, artifacts)
    reports = distinguished(reports)
    comparisons, reasons = _compare_pairs(reports, pairs)
    sizes = {card.name: float(card.size) for card in cards if card.size is not None}
    unit = "parameters" if sizes else "bytes on disk"
    models = views(reports, comparisons, sizes or {k: float(v) for k, v in artifacts.items()})
    tasks = list(dict.fromkeys(task for report in reports for task in report.tasks))
    anchors = {task: f"task-{number}" for number, task in enumerate(tasks, 1)}
    names = ", ".join(report.model_name for report in reports)
    sections = [
        slope_section(models, {view.name: view for view in models}),
        gap_section(models),
        facet_section(models),
        scale_section(models, unit),
        flip_section(models),
        control_section(models),
        reading_section(models),
        _task_section(reports, comparisons, reasons, baselines, artifacts, anchors),
        wording_section(models),
        *([sizes_section(artifacts)] if artifacts else []),
        *([curves_section(curves)] if curves else []),
        READING,
        provenance_section(reports),
    ]
    html = document(
        f"Instruction robustness of {names}" if title is None else title,
        [],
        [section for section in sections if section is not None],
        extra=first_screen(models, anchors),
        style=_style(),
        dark=True,
    )
    return write_atomically(path, html)


def _task_section(
    reports: Sequence[Report],
    comparisons: Sequence[Comparison],
    reasons: Mapping[str, Sequence[str]],
    baselines: Mapping[str, Mapping[str, float]],
    artifacts: Mapping[str, int],
    anchors: Mapping[str, str],
) -> Section:
    """All tasks, each of them folded."""
    adjusted = {report.model_name: adjusted_gaps(report) for report in reports}
    blocks = []
    for task, anchor in anchors.items():
        own = tuple(report for report in reports if task in report.tasks)
        compared = tuple((c, each) for c in comparisons for each in c.tasks if each.task == task)
        view = TaskView(
            task,
            own,
            compared,
            tuple(reasons.get(task, ())),
            baselines.get(task, {}),
            artifacts,
            {name: p[task] for name, p in adjusted.items() if len(p) > 1 and task in p},
            _EXAMPLES if len(anchors) * len(reports) <= _SMALL else 1,
        )
        blocks.append(view.block(anchor, opened=len(anchors) == 1))
    count = len(anchors)
    answer = f"{count} task{'' if count == 1 else 's'}: every number, comparison and example."
    return folded("Tasks", answer, "".join(blocks))


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
    each = [(names[0], name) for name in names[1:]]
    comparisons: list[Comparison] = []
    reasons: dict[str, list[str]] = {}
    for first, second in each if pairs is None else pairs:
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
