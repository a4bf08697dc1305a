"""Tables of a task: models, comparisons and instructions."""

from collections.abc import Mapping, Sequence
from html import escape

from metro_fast._page import Html, file_size, table
from metro_fast.robustness.comparison import Comparison, TaskComparison
from metro_fast.robustness.page.text import interval, p_value, percent, points
from metro_fast.robustness.summary import InstructionScore, TaskSummary

__all__ = ["comparison_table", "instruction_table", "summary_table"]

_NONE = "\N{EN DASH}"


def summary_table(summaries: Sequence[TaskSummary], sizes: Mapping[str, int]) -> Html:
    """One row per model.

    Args:
        summaries: The numbers of each model on the task.
        sizes: Bytes on disk by model name, where they are known.
    """
    head = (
        "Model", "Mean", "Seen", "Unseen", "Worst", "Best", "Std, raw", "Std, noise removed",
        "Do they differ?", "Consistency",
    )  # fmt: skip
    rows = [_summary_row(summary, sizes.get(summary.model_name)) for summary in summaries]
    return table(head, rows, label=f"Summary of {summaries[0].task}")


def _summary_row(summary: TaskSummary, size: int | None) -> list[str]:
    variance, cochran = summary.variance, summary.cochran
    name = escape(summary.model_name) + _hash(summary.model_hash[:8])
    return [
        Html(name if size is None else name + _hash(file_size(size))),
        percent(summary.mean),
        _NONE if summary.seen_mean is None else percent(summary.seen_mean),
        _NONE if summary.unseen_mean is None else percent(summary.unseen_mean),
        percent(summary.worst.value),
        percent(summary.best.value),
        percent(variance.raw) if variance else _NONE,
        percent(variance.sigma) if variance else _NONE,
        f"Q = {cochran.statistic:.1f}, p {p_value(cochran.p_value)}" if cochran else _NONE,
        _NONE if summary.consistency is None else percent(summary.consistency),
    ]


def comparison_table(compared: Sequence[tuple[Comparison, TaskComparison]]) -> Html:
    """One row per pair of models."""
    head = ("Models", "Difference", "Same answer", "Change of spread", "Lowest change", "Verdict")
    rows = [_comparison_row(comparison, task) for comparison, task in compared]
    return table(head, rows, label=f"Comparison on {compared[0][1].task}", kind="comparison")


def _comparison_row(comparison: Comparison, task: TaskComparison) -> list[str]:
    hashes = f"{comparison.second_hash[:8]} \N{MINUS SIGN} {comparison.first_hash[:8]}"
    names = escape(f"{comparison.second} \N{MINUS SIGN} {comparison.first}")
    verdict = f"<strong>{task.verdict}</strong>"
    if task.unchanged:
        verdict += "; <strong>same scores: was the expert applied?</strong>"
    worst = task.worst
    return [
        Html(names + _hash(hashes)),
        Html(f"{points(task.difference.mean)} {quiet(interval(task.difference.interval))}"),
        percent(task.agreement),
        _NONE
        if task.spread is None
        else Html(f"{points(task.spread.difference)} {quiet(interval(task.spread.interval))}"),
        Html(
            f"{escape(worst.instruction_id)} {points(worst.difference)} "
            + quiet(f"(adjusted p {p_value(worst.adjusted_p)})")
        ),
        Html(verdict),
    ]


def instruction_table(summaries: Sequence[TaskSummary], *, controls: bool = False) -> Html:
    """One row per wording (or per control), with a column per model."""
    listed = [s.controls if controls else s.instructions for s in summaries]
    texts = {i.instruction_id: i.text for rows in listed for i in rows}
    by_id = [{i.instruction_id: i for i in rows} for rows in listed]
    head = [
        "Instruction",
        *(Html(f"{escape(s.model_name)}<br>{quiet(f'n = {s.item_count}')}") for s in summaries),
    ]
    rows = [
        [
            Html(f'<span class="id">{escape(name)}</span><code>{escape(text)}</code>'),
            *(_NONE if name not in scores else _score(scores[name]) for scores in by_id),
        ]
        for name, text in texts.items()
    ]
    label = f"{'Controls' if controls else 'Instructions'} of {summaries[0].task}"
    return table(head, rows, label=label, kind="instructions named")


def _score(row: InstructionScore) -> Html:
    """A value, its interval in words and as a bar, and what is odd about its answers."""
    seen = "seen" if row.seen else "unseen"
    low, high, value = (100 * v for v in (*row.interval, row.value))
    counts = {
        "ties": row.ties,
        "unreadable answers": row.unread,
        "prompts cut": row.cut,
        **{f"not worded ({reason})": count for reason, count in row.rejects.items()},
    }
    odd = "".join(
        f'<span class="warning">{count} {escape(what)}</span>'
        for what, count in counts.items()
        if count
    )
    ends = f"--l:{low:.1f}%;--w:{high - low:.1f}%;--v:{value:.1f}%"
    return Html(
        f"{percent(row.value)} "
        + quiet(f"{seen}, {low:.1f}{_NONE}{high:.1f}")
        + f'<i class="range" style="{ends}"></i>{odd}'
    )


def quiet(text: str) -> Html:
    """A text in a small, gray font."""
    return Html(f'<span class="quiet">{escape(text)}</span>')


def _hash(text: str) -> Html:
    return Html(f'<span class="hash">{escape(text)}</span>')
