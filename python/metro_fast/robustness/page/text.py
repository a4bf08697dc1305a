"""Numbers and sentences of the page, which claim no more than the intervals allow."""

from metro_fast.robustness.compare import Comparison, TaskComparison
from metro_fast.robustness.gap import SeenGap
from metro_fast.robustness.report import Report
from metro_fast.robustness.statistics import Interval
from metro_fast.robustness.summary import TaskSummary

__all__ = [
    "capital",
    "caption",
    "gap_sentence",
    "headline",
    "interval",
    "p_value",
    "percent",
    "points",
    "verdict_sentence",
]


def percent(share: float, digits: int = 1) -> str:
    """A share as percent.

    Example:
        >>> percent(0.546)
        '54.6 %'
    """
    return f"{100 * share:.{digits}f} %"


def points(difference: float) -> str:
    """A difference of shares in points, with its sign.

    Example:
        >>> points(-0.0316)
        '−3.2'
    """
    text = f"{100 * difference:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")  # noqa: RUF001 - a minus sign


def p_value(p: float) -> str:
    """A p value with its relation sign, to three decimals; smaller ones are an upper bound.

    Example:
        >>> p_value(0.0123), p_value(2e-9)
        ('= 0.012', '< 0.001')
    """
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def interval(ends: Interval) -> str:
    """An interval of differences, in points.

    Example:
        >>> interval(Interval(-0.01, 0.025))
        '[−1.0, +2.5]'
    """
    return f"[{points(ends.low)}, {points(ends.high)}]"


def capital(text: str) -> str:
    """A text with a capital at its start, and the others as they are.

    Example:
        >>> capital("macro F1")
        'Macro F1'
    """
    return text[:1].upper() + text[1:]


def caption(summary: TaskSummary) -> str:
    """The items, instructions and protocol behind the numbers of a task."""
    return (
        f"n = {summary.item_count} items under each of {len(summary.instructions)} instructions; "
        f"{summary.metric_label}, split {summary.split}, items {summary.items_hash[:8]}, "
        f"preset {summary.preset}"
    )


def headline(report: Report) -> list[str]:
    """One sentence per task about the effect of the wording on a model."""
    sentences = []
    for task in report.tasks:
        summary = report.summary(task)
        mean = percent(summary.mean)
        if summary.metric == "accuracy":
            has = f"{report.model_name} answers {mean} correctly"
        else:
            has = f"{report.model_name} has a {summary.metric_label} of {mean}"
        if len(summary.instructions) == 1:
            sentences.append(f"On {task}, {has}.")
            continue
        if summary.spread == 0:
            count = len(summary.instructions)
            sentences.append(f"On {task}, {has} under each of the {count} wordings.")
            continue
        ends = f"{percent(summary.worst.value)} to {percent(summary.best.value)}"
        cochran = summary.cochran
        differ = cochran is not None and cochran.p_value < 0.05
        moved = (
            f"the wording alone changes that from {ends}"
            if differ
            else f"over the wordings it ranges from {ends}, which could be chance alone"
        )
        sentences.append(f"On {task}, {has} on average; {moved}.")
    return sentences


def gap_sentence(model_name: str, gap: SeenGap) -> str:
    """The seen/unseen gap in words; no direction is claimed if the interval contains 0."""
    low, high = gap.interval
    ends = f"95 % interval {points(low)} to {points(high)}"
    if low <= 0 <= high:
        return (
            f"{model_name}: no clear difference between seen and unseen instructions "
            f"({points(gap.gap)} points, {ends})."
        )
    better, worse = ("seen", "unseen") if gap.gap > 0 else ("unseen", "seen")
    return (
        f"{model_name}: {abs(100 * gap.gap):.1f} points better on {better} than on {worse} "
        f"instructions ({ends})."
    )


def verdict_sentence(comparison: Comparison, task: TaskComparison) -> str:
    """The paired comparison on a task in words."""
    low, high = task.difference.interval
    first, second = comparison.first, comparison.second
    margin = f"{100 * task.margin:g} point{'' if task.margin == 0.01 else 's'}"
    meaning = {
        "as robust": f"{second} is as good and as robust as {first} within {margin}",
        "better": f"{second} is better than {first}",
        "worse": f"{second} is worse than {first}",
        "undecided": f"{second} is neither shown to differ from {first} nor to be equal to it",
    }[task.verdict]
    same = " No score differs: was the expert applied?" if task.unchanged else ""
    return (
        f"{meaning} ({points(task.difference.mean)} points, "
        f"95 % interval {points(low)} to {points(high)}).{same}"
    )
