"""The sections after the tasks: bytes on disk, curves, how to read the page, and provenance."""

from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from typing import Any

import numpy as np

from metro_fast._page import Html, Section, file_size, table
from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.robustness.page import plots
from metro_fast.robustness.page.csv_text import csv_link
from metro_fast.robustness.page.overview import folded
from metro_fast.robustness.page.pictures import Picture, picture_html
from metro_fast.robustness.page.tables import quiet
from metro_fast.robustness.report import Report

__all__ = ["READING", "curves_section", "provenance_section", "sizes_section"]

_TERMS = {
    "Broken (\N{MULTIPLICATION X})": "Shown to be below the model's own median wording on the "
    "task, by Holm's correction over its wordings. The list of the model says by how much.",
    "Broken (\N{BLACK DOWN-POINTING TRIANGLE})": "Shown to be below the same cell of the "
    "reference, by Holm's correction over the wordings of the task, and not shown to lose less "
    "than the margin.",
    "Value": "The task's metric, over the items that every wording can word. The preset says "
    "whether the model scores every choice by its log-likelihood, and answers with the highest, or "
    "writes its answer, in which a choice is then found. A written answer that names none of them "
    "is wrong.",
    "Seen": "The model's family was trained with exactly this wording. This is a property of the "
    "wording and the model together, not of the wording alone.",
    "Best constant answer": "The value of always giving the most frequent answer, or always "
    "the same place in the list.",
    "Std, noise removed": "With a finite set of items, even interchangeable instructions look "
    "different. This is the part of the standard deviation over instructions that remains without "
    "that effect (two-way analysis of variance).",
    "Do they differ?": "Cochran's Q: how likely such differences between instructions are if all "
    "instructions are equally good.",
    "Consistency": "Share of pairs of instructions that give an item the same answer, correct or "
    "not. A constant answer is 100 % consistent, so read this next to the value.",
    "Worst": "The lowest of several noisy numbers is on average a little lower than the truth.",
    "Verdict": "\N{LEFT DOUBLE QUOTATION MARK}As robust\N{RIGHT DOUBLE QUOTATION MARK} only if the "
    "difference and the change of spread are both shown to be inside the margin. A difference that "
    "is not shown does not mean equality.",
}

READING = folded(
    "How to read this",
    "What each word of this page means.",
    "<dl>\n"
    + "".join(f"<dt>{escape(t)}</dt><dd>{escape(text)}</dd>\n" for t, text in _TERMS.items())
    + "</dl>",
)
"""The explanations of all terms."""


def sizes_section(sizes: Mapping[str, int]) -> Section:
    """Bytes on disk, as bars relative to the largest."""
    largest = max(sizes.values())
    rows, previous = [], None
    for label, size in sizes.items():
        share = 100 * size / largest if largest else 0.0
        note = "" if previous is None else _ratio(previous, size)
        rows.append(
            [
                label,
                Html(f'<span class="bar"><span style="width:{share:.2f}%"></span></span>'),
                Html(file_size(size) + (f"<br>{quiet(note)}" if note else "")),
            ]
        )
        previous = (label, size)
    ends = f"{max(sizes, key=lambda k: sizes[k])} {file_size(largest)}, "
    smallest = min(sizes, key=lambda k: sizes[k])
    ends += f"{smallest} {file_size(sizes[smallest])}."
    answer = ends if len(sizes) > 1 else f"{smallest} {file_size(largest)}."
    csv = csv_link("bytes", ("name", "bytes"), list(sizes.items()))
    bars = table((), rows, label="Bytes on disk", kind="bytes")
    return folded("Bytes on disk", answer, f'{bars}<p class="downloads">{csv}</p>\n')


def _ratio(previous: tuple[str, int], size: int) -> str:
    label, before = previous
    if not size or not before:
        return ""
    ratio, relation = (before / size, "smaller") if before >= size else (size / before, "larger")
    return f"{ratio:.1f}\N{MULTIPLICATION SIGN} {relation} than {label}"


def curves_section(
    curves: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]],
) -> Section:
    """One chart per heading.

    Raises:
        MetroFastError: If a chart has no curve, or a curve no points or one that is not finite.
    """
    charts = []
    for number, (heading, series) in enumerate(curves.items()):
        _check_curves(series)
        picture = Picture(
            f"curves-{number + 1}",
            f"Curves: {heading}",
            heading,
            ("curve", "x", "y"),
            [(name, float(x), float(y)) for name, curve in series.items() for x, y in curve],
            (6.6, 3.2),
            partial(plots.curves, series=series, x="", y=""),
        )
        charts.append(f"<h3>{escape(heading)}</h3>\n{picture_html(picture)}")
    return folded("Training curves", f"{', '.join(curves)}.", "".join(charts))


def _check_curves(series: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    if not series:
        raise MetroFastError("a chart of curves has no curve, expected at least one")
    for name, curve in series.items():
        if len(curve) == 0 or not np.isfinite(np.asarray(curve, dtype=np.float64)).all():
            raise MetroFastError(
                f"curve {quoted(name)} has no points, or one that is not finite: pass finite (x, "
                "y) pairs"
            )


def provenance_section(reports: Sequence[Report]) -> Section:
    """The hashes and versions behind the numbers of each model."""
    answer = "The hashes of models, items, wordings and protocols, versions and dates."
    return folded("Provenance", answer, "".join(map(_provenance, reports)))


def _provenance(report: Report) -> str:
    record = report.cells[0].record
    rows: list[list[str]] = [
        ["model", _hash(record.model_hash)],
        ["family", record.model_family],
        ["tokenizer", _hash(record.tokenizer_hash)],
        [
            "preset",
            Html(
                escape(f"{record.preset}; {_settings(record.protocol)} ")
                + _hash(record.protocol_hash)
            ),
        ],
    ]
    for task in report.tasks:
        summary = report.summary(task)
        shots = report.task_cells(task)[0].record.shots
        before = f", {shots} worked examples before each" if shots else ""
        items = escape(f"{summary.item_count}, split {summary.split}{before}, ")
        instructions = f"{len(summary.instructions)}, "
        rows += [
            [f"items of {task}", Html(items + _hash(summary.items_hash))],
            ["instructions", Html(instructions + _hash(report.instructions_hash(task)))],
        ]
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    rows += [["software", versions], ["scored", report.date_text]]
    name = report.model_name
    return table((), rows, label=f"Provenance of {name}", kind="provenance", caption=name)


def _settings(protocol: Mapping[str, Any]) -> str:
    """The settings of a protocol in a line, without the text of its wrapper."""
    parts = [f"{name} {value}" for name, value in protocol.items() if name != "wrapper"]
    return ", ".join(parts)


def _hash(text: str) -> Html:
    return Html(f'<span class="hash">{escape(text)}</span>')
