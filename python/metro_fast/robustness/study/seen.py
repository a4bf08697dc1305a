"""Is what a model was trained with safer: wordings, and tasks?"""

from metro_fast.robustness.facets import task_gap
from metro_fast.robustness.kind_gaps import kind_gaps
from metro_fast.robustness.statistics import holm
from metro_fast.robustness.study.groups import alike
from metro_fast.robustness.study.scores import WHERE
from metro_fast.robustness.study.study import Study
from metro_fast.robustness.study.table import Table, Value, make_table

__all__ = ["seen_kind_table", "seen_task_table", "seen_wording_table"]

_SIDES = {
    "seen_mean": "Mean over what was seen.",
    "unseen_mean": "Mean over what was not.",
    "gap": "Seen minus unseen.",
    "low": "Lower end of its 95 % interval.",
    "high": "Upper end.",
    "seen": "How many were seen.",
    "unseen": "How many were not.",
    "p": "Two-sided p of the gap; none where there are too few for a test.",
    "adjusted_p": "p by Holm's correction over all rows with a test.",
}

_MAIN = "seen_mean unseen_mean gap low high seen unseen adjusted_p"


def seen_wording_table(study: Study) -> Table:
    """Is a wording that a model was trained with safer than another one?

    Args:
        study: The study.

    Returns:
        One row for each model, reading and task that has wordings of both kinds.

    Raises:
        MissingExtraError: If scipy is not installed.
    """
    rows: list[list[Value]] = []
    notes = []
    for member in study.members:
        for summary in study.summaries(member):
            gap = summary.gap
            if gap is None:
                kinds = {row.seen for row in summary.instructions}
                why = "one independent item" if len(kinds) == 2 else (
                    f"only {'seen' if True in kinds else 'unseen'} wordings"
                )  # fmt: skip
                notes.append(f"{member.card.name} has {why} of {summary.task}.")
                continue
            rows.append([
                member.card.name, member.reading, summary.task, gap.seen_mean, gap.unseen_mean,
                gap.gap, *gap.interval, gap.seen_count, gap.unseen_count, gap.p_value, None,
            ])  # fmt: skip
    question = "Is a wording that the model was trained with safer?"
    columns, main = WHERE | _SIDES, f"model reading task {_MAIN}"
    return make_table("seen_wordings", question, columns, _adjusted(rows), notes, main=main)


def seen_kind_table(study: Study) -> Table:
    """Are the wordings that a model was trained with safer, over all tasks that share them?

    Args:
        study: The study.

    Returns:
        One row for each model, reading and set of tasks with the same wordings, metric and kind:
        what the page says first. Of one task, it is the row of `seen_wording_table`.

    Raises:
        MissingExtraError: If scipy is not installed.
    """
    where = {key: WHERE[key] for key in ("model", "reading")}
    columns = where | {"task_type": "Kind of the tasks.", "tasks": "The tasks."} | _SIDES
    rows: list[list[Value]] = []
    for member in study.members:
        for tasks, gap in kind_gaps(member.report):
            rows.append([
                member.card.name, member.reading, member.report.task_type(tasks[0]),
                ", ".join(tasks), gap.seen_mean, gap.unseen_mean, gap.gap, *gap.interval,
                gap.seen_count, gap.unseen_count, gap.p_value, None,
            ])  # fmt: skip
    question = "Are the wordings that the model was trained with safer, over all tasks of a kind?"
    main = f"model reading task_type tasks {_MAIN}"
    empty = "No task has both seen and unseen wordings."
    return make_table("seen_kinds", question, columns, _adjusted(rows), main=main, empty=empty)


def seen_task_table(study: Study) -> Table:
    """Is a task that a model was trained with safer than another one?

    Args:
        study: The study, whose cards name the tasks that were seen.

    Returns:
        One row for each model, reading and metric with tasks of both kinds: means are of values
        where 0 is guessing and 1 is perfect, and each task counts the same.

    Raises:
        MissingExtraError: If scipy is not installed.
    """
    where = {key: WHERE[key] for key in ("model", "reading")}
    columns = where | {"metric": "How answers are counted.", "tasks": "The tasks."} | _SIDES
    rows: list[list[Value]] = []
    notes = []
    for member in study.members:
        for group in alike(study.summaries(member), same_wordings=False):
            values = {summary.task: summary.scaled.mean for summary in group}
            seen = [task for task in values if task in member.card.seen_tasks]
            if not 0 < len(seen) < len(values):
                notes.append(
                    f"{member.card.name} has seen {len(seen)} of the {len(values)} tasks of "
                    f"{group[0].metric_label}, so they have no gap."
                )
                continue
            gap = task_gap(values, seen)
            low, high = gap.interval or (None, None)
            rows.append([
                member.card.name, member.reading, group[0].metric_label, ", ".join(values),
                gap.seen_mean, gap.unseen_mean, gap.gap, low, high, gap.seen_count,
                gap.unseen_count, gap.p_value, None,
            ])  # fmt: skip
    question = "Is a task that the model was trained with safer?"
    main = f"model reading metric {_MAIN}"
    return make_table("seen_tasks", question, columns, _adjusted(rows), notes, main=main)


def _adjusted(rows: list[list[Value]]) -> list[list[Value]]:
    """The rows with Holm's correction of their last but one value as the last one."""
    tested = [row for row in rows if row[-2] is not None]
    for row, p in zip(tested, holm([float(row[-2] or 0) for row in tested]), strict=True):
        row[-1] = p
    return rows
