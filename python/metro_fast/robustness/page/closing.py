"""The sections after the tasks: bytes on disk, curves, how to read the page, and provenance."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from metro_fast._page import Html, Section, figure, file_size, table
from metro_fast.robustness.page.figures import DASHES, line_chart
from metro_fast.robustness.page.tables import quiet
from metro_fast.robustness.report import Report

__all__ = ["READING", "curves_section", "provenance_section", "sizes_section"]

_TERMS = {
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

READING = Section(
    "How to read this",
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
    return Section("Bytes on disk", table((), rows, label="Bytes on disk", kind="bytes"))


def _ratio(previous: tuple[str, int], size: int) -> str:
    label, before = previous
    if not size or not before:
        return ""
    ratio, relation = (before / size, "smaller") if before >= size else (size / before, "larger")
    return f"{ratio:.1f}\N{MULTIPLICATION SIGN} {relation} than {label}"


def curves_section(
    curves: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]],
) -> Section:
    """One chart per heading."""
    charts = []
    for heading, series in curves.items():
        names = "".join(
            '<span class="curve-name"><svg width="28" height="10" aria-hidden="true"><line '
            f'class="curve curve-{i % 6}" x1="0" x2="28" y1="5" y2="5" '
            f'stroke-dasharray="{DASHES[i % 6]}"/></svg> {escape(name)}</span>'
            for i, name in enumerate(series)
        )
        chart = line_chart(series, description=f"Curves: {heading}")
        charts.append(f"<h3>{escape(heading)}</h3>\n{figure(chart, Html(names))}")
    return Section("Training curves", "".join(charts))


def provenance_section(reports: Sequence[Report]) -> Section:
    """The hashes and versions behind the numbers of each model."""
    return Section("Provenance", "".join(map(_provenance, reports)))


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
