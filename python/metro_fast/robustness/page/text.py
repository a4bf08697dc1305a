"""Numbers and sentences of the page, which claim no more than the intervals allow."""

from collections.abc import Sequence

from metro_fast.robustness.control_checks import ControlCheck
from metro_fast.robustness.gap import SeenGap
from metro_fast.robustness.summary import TaskSummary
from metro_fast.robustness.words import interval, p_value, percent, points

__all__ = [
    "capital",
    "caption",
    "control_sentence",
    "gap_sentence",
    "interval",
    "p_value",
    "percent",
    "plain_list",
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


def gap_sentence(model_name: str, gap: SeenGap, where: str) -> str:
    """The seen/unseen gap in words; no direction is claimed if the interval contains 0."""
    low, high = gap.interval
    ends = f"95 % interval {points(low)} to {points(high)}"
    if low <= 0 <= high:
        return (
            f"{model_name} on {where}: no clear difference between seen and unseen instructions "
            f"({points(gap.gap)} points, {ends})."
        )
    better, worse = ("seen", "unseen") if gap.gap > 0 else ("unseen", "seen")
    return (
        f"{model_name} on {where}: {abs(100 * gap.gap):.1f} points better on {better} than on "
        f"{worse} instructions ({ends})."
    )


def control_sentence(model_name: str, check: ControlCheck, task: str) -> str:
    """Whether a model notices a control, in words."""
    if check.difference is None:
        return f"{model_name} on {task}, under {check.instruction_id}: too few items to tell."
    meaning = {
        "notices": "the model notices that it is not asked for the right answer",
        "does not notice": "the model does not notice that it is not asked for the right answer",
        "undecided": "it is not shown whether the model notices",
    }[check.verdict]
    return (
        f"{model_name} on {task}, under {check.instruction_id} ({check.kind}): {meaning} "
        f"({points(check.difference.mean)} points against its wordings, "
        f"{interval(check.difference.interval)})."
    )


def plain_list(lines: Sequence[str]) -> str:
    """A list without marks.

    Args:
        lines: HTML.
    """
    items = "".join(f"<li>{line}</li>\n" for line in lines)
    return f'<ul class="plain">\n{items}</ul>\n'
