"""Task-oriented against open-domain: extraction of relations beside answers to questions."""

from itertools import combinations

from metro_fast.robustness.facets import pooled, task_gap
from metro_fast.robustness.study.groups import alike
from metro_fast.robustness.study.scores import WHERE
from metro_fast.robustness.study.study import Member, Study
from metro_fast.robustness.study.table import Table, Value, make_table
from metro_fast.robustness.summary import TaskSummary

__all__ = ["facet_gap_table", "facet_table"]

_WHERE = {key: WHERE[key] for key in ("model", "reading")}


def facet_table(study: Study) -> Table:
    """Is extracting relations harder, or more fragile, than answering questions?

    Args:
        study: The study.

    Returns:
        One row for each model, reading and kind of task, and for each metric, split and set of
        wordings of it, since these are not averaged together. Each task counts the same.

    Raises:
        MissingExtraError: If scipy is not installed.
    """
    columns = _WHERE | {
        "task_type": "Kind of task, such as re or qa.",
        "metric": "How answers are counted.",
        "tasks": "The tasks that are averaged.",
        "scaled_mean": "Mean where 0 is guessing and 1 is perfect.",
        "scaled_worst": "The same of the worst wording.",
        "scaled_sigma": "Standard deviation over wordings on that scale, without noise.",
        "relative_sigma": "Sigma as a share of the largest that such a mean allows.",
        "logit_sigma": "Sigma of the log odds.",
        "drop_rate": "Share of the best wording's value that the mean lacks.",
    }
    rows: list[list[Value]] = []
    for member in study.members:
        for task_type, summaries in _by_type(study, member).items():
            for group in alike(summaries):
                found = pooled(group, task_type)
                rows.append([
                    member.card.name, member.reading, task_type, group[0].metric_label,
                    ", ".join(found.tasks), found.scaled.mean, found.scaled.worst,
                    found.scaled.sigma, found.scaled.relative_sigma, found.scaled.logit_sigma,
                    found.drop_rate,
                ])  # fmt: skip
    question = "Are task-oriented and open-domain questions alike?"
    main = "model reading task_type metric tasks scaled_mean scaled_worst scaled_sigma"
    return make_table("facets", question, columns, rows, main=main)


def facet_gap_table(study: Study) -> Table:
    """How far are two kinds of task apart, on the scale where 0 is guessing?

    Args:
        study: The study.

    Returns:
        One row for each model, reading, metric and pair of kinds. The tasks are the units of the
        interval and of p, so one task of a kind has neither. Kinds of different metrics are not
        subtracted from one another.

    Raises:
        MissingExtraError: If scipy is not installed.
    """
    columns = _WHERE | {
        "metric": "How answers are counted.",
        "first": "One kind of task.",
        "second": "The other one.",
        "first_mean": "Scaled mean over the tasks of the first kind.",
        "second_mean": "The same of the second.",
        "gap": "First minus second.",
        "low": "Lower end of its 95 % interval; none for a single task of a kind.",
        "high": "Upper end.",
        "p": "Two-sided p (Welch over tasks).",
        "first_tasks": "Number of tasks of the first kind.",
        "second_tasks": "Number of tasks of the second kind.",
    }
    rows: list[list[Value]] = []
    notes = []
    for member in study.members:
        kinds = _by_type(study, member)
        for first, second in combinations(kinds, 2):
            metrics = 0
            for group in alike([*kinds[first], *kinds[second]], same_wordings=False):
                names = {summary.task for summary in kinds[first]}
                values = {summary.task: summary.scaled.mean for summary in group}
                if not 0 < len(names & values.keys()) < len(values):
                    continue
                gap = task_gap(values, names)
                low, high = gap.interval or (None, None)
                rows.append([
                    member.card.name, member.reading, group[0].metric_label, first, second,
                    gap.seen_mean, gap.unseen_mean, gap.gap, low, high, gap.p_value,
                    gap.seen_count, gap.unseen_count,
                ])  # fmt: skip
                metrics += 1
            if not metrics:
                notes.append(
                    f"{first} and {second} have no metric and split in common, so they are not "
                    "subtracted from one another; the facets have their scaled means."
                )
    question = "How far are the kinds of task apart?"
    main = "model reading metric first second gap low high p"
    empty = "The tasks are of one kind."
    return make_table("facet_gaps", question, columns, rows, notes, main=main, empty=empty)


def _by_type(study: Study, member: Member) -> dict[str, list[TaskSummary]]:
    found: dict[str, list[TaskSummary]] = {}
    for summary in study.summaries(member):
        found.setdefault(member.report.task_type(summary.task), []).append(summary)
    return found
