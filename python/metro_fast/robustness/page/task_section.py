"""The block of one task: its tables and sentences."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape

from metro_fast.robustness.comparison import Comparison, TaskComparison
from metro_fast.robustness.kinds import KindSpread
from metro_fast.robustness.page.examples import examples_of
from metro_fast.robustness.page.sentences import task_sentence
from metro_fast.robustness.page.tables import (
    comparison_table,
    instruction_table,
    quiet,
    summary_table,
)
from metro_fast.robustness.page.text import (
    caption,
    gap_sentence,
    p_value,
    percent,
    plain_list,
)
from metro_fast.robustness.report import Report
from metro_fast.robustness.summary import TaskSummary

__all__ = ["TaskView"]


@dataclass(frozen=True)
class TaskView:
    """The part of the page that is about one task.

    Attributes:
        name: The name of the task.
        reports: The reports that have the task.
        compared: The comparisons that include the task.
        reasons: Why some models are not compared.
        baselines: Label and value of rules that do not read.
        sizes: Bytes on disk by model name, where they are known.
        adjusted: By model the p of its seen/unseen gap, by Holm's correction over tasks.
        examples: Number of flipped items that are shown for each model.
    """

    name: str
    reports: tuple[Report, ...]
    compared: tuple[tuple[Comparison, TaskComparison], ...]
    reasons: tuple[str, ...]
    baselines: Mapping[str, float]
    sizes: Mapping[str, int]
    adjusted: Mapping[str, float]
    examples: int

    @cached_property
    def summaries(self) -> tuple[TaskSummary, ...]:
        """The numbers of each model."""
        return tuple(report.summary(self.name) for report in self.reports)

    def block(self, anchor: str, *, opened: bool) -> str:
        """The whole block.

        Args:
            anchor: Its id.
            opened: Whether it is open when the page is loaded.
        """
        parts = [
            plain_list([escape(task_sentence(s.model_name, s)) for s in self.summaries]),
            summary_table(self.summaries, self.sizes),
            f'<p class="quiet">{escape(self._lines())}</p>\n',
            self._kinds(),
            self._gaps(),
            self._comparisons(),
            "<h4>Every wording</h4>\n",
            instruction_table(self.summaries),
            f'<p class="quiet">{escape(f"{self._ranges()} {caption(self.summaries[0])}")}.</p>\n',
            self._left_out(),
            "<h4>Where the wording changes the answer</h4>\n",
            *(
                examples_of(report.model_name, report.task_cells(self.name), count=self.examples)
                for report in self.reports
            ),
        ]
        low, high = min(s.mean for s in self.summaries), max(s.mean for s in self.summaries)
        ends = percent(low) if low == high else f"{percent(low)} to {percent(high)}"
        attribute, name = " open" if opened else "", escape(self.name)
        return (
            f'<details class="task"{attribute}>\n<summary><strong>{name}</strong>: means {ends}'
            f'</summary>\n<div id="{anchor}">{"".join(parts)}</div></details>\n'
        )

    def _lines(self) -> str:
        """The values of rules that do not read, which a model must exceed."""
        first = self.summaries[0]
        lines = {"best constant answer": first.majority_share}
        if first.chance is not None:
            lines = {"chance": first.chance, **lines}
        shown = ", ".join(
            f"{label} {percent(value)}" for label, value in (lines | dict(self.baselines)).items()
        )
        return f"What does not read the question: {shown}."

    def _ranges(self) -> str:
        kind = "Wilson" if self.summaries[0].binary else "bootstrap"
        return f"Ranges are {kind} 95 % intervals of a single {self.summaries[0].metric_label}."

    def _kinds(self) -> str:
        """Wordings, formats and orders of options apart."""
        lines = [
            escape(f"{s.model_name}: {', '.join(map(_kind, s.kinds))}.")
            for s in self.summaries
            if s.kinds
        ]
        return f"<h4>Variation by its kind</h4>\n{plain_list(lines)}" if lines else ""

    def _left_out(self) -> str:
        """How many items some wording cannot word, which are outside of all numbers."""
        lines = [
            f"{s.model_name}: {s.task_item_count - s.item_count} of {s.task_item_count} items are "
            "left out of all numbers, since some instruction cannot word them."
            for s in self.summaries
            if s.item_count < s.task_item_count
        ]
        return plain_list([escape(line) for line in lines]) if lines else ""

    def _gaps(self) -> str:
        """Seen against unseen instructions, if a model has both."""
        lines = []
        for summary in self.summaries:
            gap, name = summary.gap, summary.model_name
            if gap is None:
                continue
            test = "" if gap.p_value is None else f"; p {p_value(gap.p_value)}"
            if name in self.adjusted:
                test += f", over all tasks {p_value(self.adjusted[name])}"
            effect = f"; Cohen's h {gap.effect_size:+.2f}".replace("-", "\N{MINUS SIGN}")
            sentence = escape(gap_sentence(name, gap, self.name))
            lines.append(f"{sentence} {quiet(f'{gap.note}{test}{effect}.')}")
        return f"<h4>Seen against unseen wordings</h4>\n{plain_list(lines)}" if lines else ""

    def _comparisons(self) -> str:
        """Models against each other, if any were compared."""
        skipped = plain_list([escape(reason) for reason in self.reasons]) if self.reasons else ""
        if skipped:
            skipped = f'<p class="quiet">Not compared:</p>\n{skipped}'
        if not self.compared:
            return skipped
        sentences = [comparison.sentence(self.name) for comparison, _ in self.compared]
        return (
            "<h4>Models against each other, on the same items and instructions</h4>\n"
            + comparison_table(self.compared)
            + plain_list([escape(sentence) for sentence in sentences])
            + skipped
        )


def _kind(row: KindSpread) -> str:
    sigma = (
        "" if row.spread is None else f", \N{GREEK SMALL LETTER SIGMA} {percent(row.spread.sigma)}"
    )
    return f"{row.instructions} of the kind {row.kind} have {percent(row.mean)}{sigma}"
