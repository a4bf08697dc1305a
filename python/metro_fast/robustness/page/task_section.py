"""The section of one task: its pictures, tables and sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from metro_fast._page import Section, figure
from metro_fast.robustness.compare import Comparison, TaskComparison
from metro_fast.robustness.page.examples import examples_of
from metro_fast.robustness.page.figures import Dot, StripRow, accuracy_strip, interval_chart
from metro_fast.robustness.page.tables import (
    comparison_table,
    instruction_table,
    quiet,
    summary_table,
)
from metro_fast.robustness.page.text import (
    caption,
    gap_sentence,
    interval,
    p_value,
    percent,
    points,
    verdict_sentence,
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
        baselines: Label and accuracy of lines in the picture.
        sizes: Bytes on disk by model name, where they are known.
    """

    name: str
    reports: tuple[Report, ...]
    compared: tuple[tuple[Comparison, TaskComparison], ...]
    baselines: Mapping[str, float]
    sizes: Mapping[str, int]

    @classmethod
    def of(
        cls,
        name: str,
        reports: Sequence[Report],
        comparisons: Sequence[Comparison],
        baselines: Mapping[str, float],
        sizes: Mapping[str, int],
    ) -> "TaskView":
        """The view of a task, out of all reports and comparisons."""
        present = tuple(report for report in reports if name in report.tasks)
        compared = tuple((c, t) for c in comparisons for t in c.tasks if t.task == name)
        return cls(name, present, compared, baselines, sizes)

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
                percent(first.mean_accuracy),
                escape(f"{first.model_name}, mean of {count} instruction{plural}"),
            )
        ]
        if count > 1:
            worst, best = 100 * first.worst.accuracy, 100 * first.best.accuracy
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
            f'<p class="quiet">Ranges are Wilson 95 % intervals of a single accuracy over items. '
            f"{escape(numbers)}.</p>\n",
            self._controls(),
            "<h3>Where the wording changes the answer</h3>\n",
            *(
                examples_of(report.model_name, report.task_cells(self.name), open=number == 0)
                for number, report in enumerate(self.reports)
            ),
        ]
        return Section(self.name, "".join(parts))

    def _controls(self) -> str:
        """Accuracy under instructions that do not ask for the right answer."""
        if not any(summary.controls for summary in self.summaries):
            return ""
        return (
            "<h3>Controls</h3>\n"
            '<p class="quiet">These do not ask for the right answer, and enter no other number. A '
            "model whose accuracy stays the same here does not follow its instructions.</p>\n"
            + instruction_table(self.summaries, controls=True)
        )

    def _strip(self) -> str:
        """Accuracy over instructions, with lines for the baselines."""
        summaries = self.summaries
        first = summaries[0]
        lines = {"best constant answer": first.majority_share}
        if first.chance != first.majority_share:
            lines["chance"] = first.chance
        rows = [StripRow(s.model_name, _dots(s), s.mean_accuracy) for s in summaries]
        means = "; ".join(
            f"{s.model_name}: mean {percent(s.mean_accuracy)}, worst {percent(s.worst.accuracy)}, "
            f"best {percent(s.best.accuracy)}"
            for s in summaries
        )
        picture = accuracy_strip(
            rows, lines | dict(self.baselines), description=f"Accuracy over instructions. {means}."
        )
        text = "Accuracy, with one dot per instruction; point at a dot to see its name. "
        return figure(picture, f"{text}{caption(first)}.", before=_LEGEND)

    def _gaps(self) -> str:
        """Seen against unseen instructions, if a model has both."""
        gaps = [(s.model_name, s.gap) for s in self.summaries if s.gap is not None]
        if not gaps:
            return ""
        sentences = [gap_sentence(name, gap) for name, gap in gaps]
        picture = interval_chart(
            [(name, 100 * g.gap, 100 * g.interval.low, 100 * g.interval.high) for name, g in gaps],
            description=f"Accuracy on seen minus unseen instructions. {' '.join(sentences)}",
        )
        text = (
            "Mean accuracy on seen minus unseen instructions, in points, with 95 % intervals over "
            "items and instructions. Right of zero: better on instructions seen in training."
        )
        notes = [
            g.note + ("" if g.p_value is None else f"; permutation p {p_value(g.p_value)}") + "."
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
        if not self.compared:
            return ""
        sentences = [verdict_sentence(comparison, task) for comparison, task in self.compared]
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
        )


def _dots(summary: TaskSummary) -> tuple[Dot, ...]:
    return tuple(
        Dot(
            i.accuracy,
            i.seen,
            f"{i.instruction_id} ({'seen' if i.seen else 'unseen'}): {percent(i.accuracy)}, "
            f"{i.correct} of {i.total}",
        )
        for i in summary.instructions
    )


def _tile(number: str, about: str) -> str:
    return f"<div><b>{number}</b><span>{about}</span></div>\n"


def _list(lines: Sequence[str]) -> str:
    items = "".join(f"<li>{line}</li>\n" for line in lines)
    return f'<ul class="plain">\n{items}</ul>\n'
