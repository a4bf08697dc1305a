"""The section of one task: its pictures, tables and sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from metro_fast._page import Section, figure
from metro_fast.robustness.comparison import Comparison, TaskComparison
from metro_fast.robustness.page.examples import examples_of
from metro_fast.robustness.page.figures import Dot, StripRow, interval_chart, value_strip
from metro_fast.robustness.page.tables import (
    comparison_table,
    instruction_table,
    quiet,
    summary_table,
)
from metro_fast.robustness.page.text import (
    capital,
    caption,
    control_sentence,
    gap_sentence,
    interval,
    p_value,
    percent,
    points,
)
from metro_fast.robustness.report import Report
from metro_fast.robustness.summary import TaskSummary

__all__ = ["TaskView"]

_LEGEND = """<p class="legend" aria-hidden="true">
<span><span class="key seen-key"></span> seen in training</span>
<span><span class="key unseen-key"></span> unseen</span>
<span><span class="key mean-key"></span> mean</span>
<span><span class="key box-key"></span> middle half of the instructions</span>
</p>
"""


@dataclass(frozen=True)
class TaskView:
    """The parts of the page that are about one task.

    Attributes:
        name: The name of the task.
        reports: The reports that have the task.
        compared: The comparisons that include the task.
        reasons: Why some models are not compared.
        baselines: Label and value of lines in the picture.
        sizes: Bytes on disk by model name, where they are known.
    """

    name: str
    reports: tuple[Report, ...]
    compared: tuple[tuple[Comparison, TaskComparison], ...]
    reasons: tuple[str, ...]
    baselines: Mapping[str, float]
    sizes: Mapping[str, int]

    @classmethod
    def of(
        cls,
        name: str,
        reports: Sequence[Report],
        comparisons: Sequence[Comparison],
        reasons: Sequence[str],
        baselines: Mapping[str, float],
        sizes: Mapping[str, int],
    ) -> "TaskView":
        """The view of a task, out of all reports and comparisons."""
        present = tuple(report for report in reports if name in report.tasks)
        compared = tuple((c, t) for c in comparisons for t in c.tasks if t.task == name)
        return cls(name, present, compared, tuple(reasons), baselines, sizes)

    @property
    def summaries(self) -> list[TaskSummary]:
        """The numbers of each model."""
        return [report.summary(self.name) for report in self.reports]

    def tiles(self) -> str:
        """The most important numbers, for the top of the page."""
        first = self.summaries[0]
        count = len(first.instructions)
        plural = "s" if count > 1 else ""
        tiles = [
            _tile(
                percent(first.mean),
                escape(f"{first.model_name}, mean of {count} instruction{plural}"),
            )
        ]
        if first.spread > 0:
            worst, best = 100 * first.worst.value, 100 * first.best.value
            tiles.append(_tile(f"{worst:.0f}\N{EN DASH}{best:.0f} %", "worst to best wording"))
        if first.gap is not None:
            ends = interval(first.gap.interval)
            about = f"points, seen minus unseen instructions<br>{ends}"
            tiles.append(_tile(points(first.gap.gap), about))
        for comparison, task in self.compared:
            names = escape(f"points, {comparison.second} against {comparison.first}")
            verdict = f"<strong>{task.verdict}</strong>"
            ends = interval(task.difference.interval)
            tiles.append(_tile(points(task.difference.mean), f"{names}: {verdict}<br>{ends}"))
        return (
            f'<h2 class="tiles-head">{escape(self.name)}</h2>\n'
            f'<div class="tiles">\n{"".join(tiles)}</div>\n'
        )

    def section(self) -> Section:
        """The whole section."""
        numbers = caption(self.summaries[0])
        parts = [
            self._strip(),
            summary_table(self.summaries, self.sizes),
            self._gaps(),
            self._comparisons(),
            "<h3>Every instruction</h3>\n",
            instruction_table(self.summaries),
            f'<p class="quiet">{escape(self._ranges())} {escape(numbers)}.</p>\n',
            self._left_out(),
            self._controls(),
            "<h3>Where the wording changes the answer</h3>\n",
            *(
                examples_of(report.model_name, report.task_cells(self.name), open=number == 0)
                for number, report in enumerate(self.reports)
            ),
        ]
        return Section(self.name, "".join(parts))

    def _ranges(self) -> str:
        kind = "Wilson" if self.summaries[0].binary else "bootstrap"
        return f"Ranges are {kind} 95 % intervals of a single {self.summaries[0].metric_label}."

    def _left_out(self) -> str:
        """How many items some wording cannot word, which are outside of all numbers."""
        lines = [
            f"{s.model_name}: {s.task_item_count - s.item_count} of {s.task_item_count} items are "
            "left out of all numbers, since some instruction cannot word them."
            for s in self.summaries
            if s.item_count < s.task_item_count
        ]
        return _list([escape(line) for line in lines]) if lines else ""

    def _controls(self) -> str:
        """The values under instructions that do not ask for the right answer."""
        if not any(summary.controls for summary in self.summaries):
            return ""
        return (
            "<h3>Controls</h3>\n"
            '<p class="quiet">These do not ask for the right answer, and enter no other number. A '
            "model whose value stays the same here does not follow its instructions.</p>\n"
            + instruction_table(self.summaries, controls=True)
            + _list(
                [
                    escape(control_sentence(s.model_name, c))
                    for s in self.summaries
                    for c in s.control_checks
                ]
            )
        )

    def _strip(self) -> str:
        """The values over instructions, with lines for the baselines."""
        summaries = self.summaries
        first = summaries[0]
        lines = {"best constant answer": first.majority_share}
        if first.chance is not None and first.chance != first.majority_share:
            lines["chance"] = first.chance
        metric = capital(first.metric_label)
        rows = [StripRow(s.model_name, _dots(s), s.mean) for s in summaries]
        means = "; ".join(
            f"{s.model_name}: mean {percent(s.mean)}, worst {percent(s.worst.value)}, "
            f"best {percent(s.best.value)}"
            for s in summaries
        )
        picture = value_strip(
            rows, lines | dict(self.baselines), description=f"{metric} over instructions. {means}."
        )
        text = f"{metric}, with one dot per instruction; point at a dot to see its name. "
        return figure(picture, f"{text}{caption(first)}.", before=_LEGEND)

    def _gaps(self) -> str:
        """Seen against unseen instructions, if a model has both."""
        gaps = [(s.model_name, s.gap) for s in self.summaries if s.gap is not None]
        if not gaps:
            return ""
        sentences = [gap_sentence(name, gap) for name, gap in gaps]
        metric = capital(self.summaries[0].metric_label)
        picture = interval_chart(
            [(name, 100 * g.gap, 100 * g.interval.low, 100 * g.interval.high) for name, g in gaps],
            description=f"{metric} on seen minus unseen instructions. {' '.join(sentences)}",
        )
        text = (
            f"Mean {self.summaries[0].metric_label} on seen minus unseen instructions, in points, "
            "with 95 % intervals over items and instructions. Right of zero: better on "
            "instructions seen in training."
        )
        notes = [
            g.note + ("" if g.p_value is None else f"; p {p_value(g.p_value)}") + "."
            for _, g in gaps
        ]
        lines = [
            f"{escape(sentence)} {quiet(note)}"
            for sentence, note in zip(sentences, notes, strict=True)
        ]
        heading = "<h3>Seen against unseen instructions</h3>\n"
        return heading + figure(picture, text) + _list(lines)

    def _comparisons(self) -> str:
        """Models against each other, if any were compared."""
        skipped = _list([escape(reason) for reason in self.reasons]) if self.reasons else ""
        if skipped:
            skipped = f'<p class="quiet">Not compared:</p>\n{skipped}'
        if not self.compared:
            return skipped
        sentences = [comparison.sentence(self.name) for comparison, _ in self.compared]
        margin = 100 * self.compared[0][1].margin
        rows = [
            (
                f"{comparison.second} minus {comparison.first}",
                100 * task.difference.mean,
                100 * task.difference.interval.low,
                100 * task.difference.interval.high,
            )
            for comparison, task in self.compared
        ]
        picture = interval_chart(
            rows, margin=margin, description=f"Paired differences. {' '.join(sentences)}"
        )
        text = (
            "Mean paired difference in points, with 95 % intervals over items. The band is ± "
            f"{margin:g} point: an interval inside it shows equality; one that merely touches zero "
            "shows nothing."
        )
        return (
            "<h3>Models against each other, on the same items and instructions</h3>\n"
            + figure(picture, text)
            + comparison_table(self.compared)
            + _list([escape(sentence) for sentence in sentences])
            + skipped
        )


def _dots(summary: TaskSummary) -> tuple[Dot, ...]:
    return tuple(
        Dot(
            i.value,
            i.seen,
            f"{i.instruction_id} ({'seen' if i.seen else 'unseen'}): {percent(i.value)}, "
            f"{i.correct} of {i.total} right",
        )
        for i in summary.instructions
    )


def _tile(number: str, about: str) -> str:
    return f"<div><b>{number}</b><span>{about}</span></div>\n"


def _list(lines: Sequence[str]) -> str:
    items = "".join(f"<li>{line}</li>\n" for line in lines)
    return f'<ul class="plain">\n{items}</ul>\n'
