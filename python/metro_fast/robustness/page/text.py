"""Numbers and sentences of the page, which claim no more than the intervals allow."""

from metro_fast.robustness.control_checks import ControlCheck
from metro_fast.robustness.gap import SeenGap
from metro_fast.robustness.report import Report
from metro_fast.robustness.summary import TaskSummary
from metro_fast.robustness.words import interval, p_value, percent, points

__all__ = [
    "capital",
    "caption",
    "control_sentence",
    "gap_sentence",
    "headline",
    "interval",
    "p_value",
    "percent",
    "points",
]


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


def control_sentence(model_name: str, check: ControlCheck) -> str:
    """Whether a model notices a control, in words."""
    if check.difference is None:
        return f"{model_name} under {check.instruction_id}: too few items to tell."
    meaning = {
        "notices": "the model notices that it is not asked for the right answer",
        "does not notice": "the model does not notice that it is not asked for the right answer",
        "undecided": "it is not shown whether the model notices",
    }[check.verdict]
    return (
        f"{model_name} under {check.instruction_id} ({check.kind}): {meaning} "
        f"({points(check.difference.mean)} points against its wordings, "
        f"{interval(check.difference.interval)})."
    )
