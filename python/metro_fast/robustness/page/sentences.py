"""Sentences about models: how their wordings differ, and how they compare with references."""

from collections import Counter

from metro_fast.robustness.page.text import p_value, percent, points
from metro_fast.robustness.page.view import BrokenCell, ModelView
from metro_fast.robustness.summary import TaskSummary
from metro_fast.robustness.verdicts import AS_ROBUST, BETTER, UNDECIDED, WORSE

__all__ = ["broken_sentence", "model_sentence", "task_sentence"]

_NAMED = 2
"""Broken cells that the sentence of a model names; all of them are listed below its matrix."""


def model_sentence(view: ModelView) -> str:
    """The verdict on a model in a sentence or two.

    Of a model with a reference on one task this is `Comparison.sentence`; with several tasks the
    verdicts are counted, and the tasks of the rarer ones named.
    """
    if len(view.references) == 1 == len(view.summaries):
        (reference,) = view.references.values()
        return reference.comparison.sentence(reference.task.task)
    if len(view.summaries) == 1:
        return f"{task_sentence(view.name, view.summaries[0])} {_broken(view)}"
    if not view.references:
        lowest = min(view.summaries, key=lambda s: s.worst.value)
        worst = f"{lowest.worst.instruction_id} on {lowest.task} has {percent(lowest.worst.value)}"
        means = [percent(summary.mean) for summary in view.summaries]
        overall = (
            f"has {min(means, key=_number)} to {max(means, key=_number)} on its "
            f"{len(means)} tasks; its lowest cell, {worst}"
        )
        return f"{view.name} {overall}. {_broken(view)}"
    counts = _verdicts(view)
    same = all(each.task.unchanged for each in view.references.values())
    unchanged = " No score differs: was the expert applied?" if same else ""
    return f"{view.name} {counts}.{unchanged} {_broken(view)}"


def _number(text: str) -> float:
    return float(text.partition(" ")[0])


def _verdicts(view: ModelView) -> str:
    """The verdicts on several tasks."""
    found = {name: each.task.verdict for name, each in view.references.items()}
    counts = Counter(found.values())
    firsts = list(dict.fromkeys(each.comparison.first for each in view.references.values()))
    parts = []
    for verdict in (WORSE, BETTER, AS_ROBUST, UNDECIDED):
        if counts[verdict]:
            tasks = [name for name, given in found.items() if given == verdict]
            named = f" ({', '.join(tasks)})" if verdict == WORSE and len(tasks) <= _NAMED else ""
            parts.append(f"{verdict} on {counts[verdict]}{named}")
    changes = [each.task.difference.mean for each in view.references.values()]
    change = points(sum(changes) / len(changes))
    return (
        f"against {' and '.join(firsts)} on {len(found)} tasks: {', '.join(parts)}; "
        f"{change} points on average over tasks"
    )


def _broken(view: ModelView) -> str:
    """How many cells broke, and which."""
    cells = view.broken
    if not cells:
        return f"None of its {view.cell_count} cells is shown to be broken."
    named = ", ".join(
        f"{cell.wording} on {cell.task} (\N{MINUS SIGN}{100 * cell.loss:.0f})"
        for cell in cells[:_NAMED]
    )
    more = f" and {len(cells) - _NAMED} more" if len(cells) > _NAMED else ""
    return f"Broken: {named}{more}."


def broken_sentence(cell: BrokenCell) -> str:
    """How much a broken cell lost, and against what."""
    parts = []
    if cell.within is not None:
        loss = 100 * -cell.within.difference
        parts.append(
            f"{loss:.1f} points below its median wording, p {p_value(cell.within.adjusted_p)}"
        )
    if cell.against is not None:
        loss = 100 * -cell.against.difference
        parts.append(f"{loss:.1f} below {cell.reference}, p {p_value(cell.against.adjusted_p)}")
    return f"{percent(cell.value)}, {'; '.join(parts)}"


def task_sentence(name: str, summary: TaskSummary) -> str:
    """The effect of the wording on a model on a task."""
    mean = percent(summary.mean)
    if summary.metric == "accuracy":
        has = f"{name} answers {mean} correctly"
    else:
        has = f"{name} has a {summary.metric_label} of {mean}"
    count = len(summary.instructions)
    if count == 1:
        return f"On {summary.task}, {has}."
    if summary.spread == 0:
        return f"On {summary.task}, {has} under each of the {count} wordings."
    ends = f"{percent(summary.worst.value)} to {percent(summary.best.value)}"
    cochran = summary.cochran
    moved = (
        f"the wording alone changes that from {ends}"
        if cochran is not None and cochran.p_value < 0.05
        else f"over the wordings it ranges from {ends}, which could be chance alone"
    )
    return f"On {summary.task}, {has} on average; {moved}."
