"""Each model on each task: its numbers, its wordings, its controls."""

from metro_fast.robustness.common_items import item_groups, value_matrix
from metro_fast.robustness.planning import variance_components
from metro_fast.robustness.resampling import score_interval
from metro_fast.robustness.statistics import Interval, holm
from metro_fast.robustness.study.study import Member, Study
from metro_fast.robustness.study.table import Table, Value, make_table

__all__ = [
    "broken_table",
    "control_table",
    "mean_interval",
    "model_table",
    "score_table",
    "wording_table",
]

WHERE = {
    "model": "Name of the model.",
    "reading": "How it was asked: the protocol.",
    "task": "Name of the task.",
}
"""The columns that say what a row is about."""


def model_table(study: Study) -> Table:
    """Which models are in the study, and what was swapped in.

    Args:
        study: The study.

    Returns:
        One row for each model.
    """
    columns = {
        "model": WHERE["model"],
        "family": "Models of one family are on one scale curve.",
        "kind": "base, expert, compressed, merged, or other.",
        "size": "Number of parameters of the whole model.",
        "base": "The model that the expert is on.",
        "expert": "Where the expert comes from.",
        "expert_bytes": "Bytes of the expert's weights file.",
        "density": "Share of the expert's weights that are not 0; none at full size.",
        "original": "The expert at full size that it was compressed from.",
        "seen_tasks": "The tasks that it was trained with.",
        "readings": "How it was asked.",
        "model_hash": "SHA-256 of its tensors, configuration and adapters.",
    }
    rows: list[list[Value]] = []
    for card in study.cards:
        members, expert = study.of(card.name), card.expert
        rows.append([
            card.name, card.family, card.kind, card.size, card.base,
            None if expert is None else expert.source,
            None if expert is None else expert.size_bytes,
            None if expert is None else expert.density,
            None if expert is None else expert.original,
            ", ".join(card.seen_tasks),
            ", ".join(member.reading for member in members),
            members[0].report.model_hash,
        ])  # fmt: skip
    main = "model kind size expert_bytes density base readings"
    return make_table("models", "Which models are compared?", columns, rows, main=main)


def score_table(study: Study) -> Table:
    """Does each model follow its instructions, however they are worded?

    Args:
        study: The study.

    Returns:
        One row for each model, reading and task.

    Raises:
        MissingExtraError: If scipy is not installed.
    """
    columns = WHERE | {
        "task_type": "Kind of the task.",
        "metric": "How answers are counted.",
        "items": "Items that all wordings can word.",
        "wordings": "Number of wordings, without controls.",
        "mean": "Mean of the metric over the wordings.",
        "mean_low": "Lower end of its 95 % interval, for other items and wordings like these.",
        "mean_high": "Upper end.",
        "chance": "Value of a uniform guess; none for free answers.",
        "scaled_mean": "The mean where 0 is guessing and 1 is perfect.",
        "sigma": "Standard deviation over wordings, without the noise of a finite set of items.",
        "sigma_low": "Lower end of its 95 % interval.",
        "sigma_high": "Upper end.",
        "worst": "The wording with the lowest value.",
        "worst_value": "Its value, which is low by luck as well.",
        "worst_fair": "The worst wording by half of the items, measured on the other half.",
        "always_right": "Share of items that are right under every wording.",
        "broken": "Wordings that are shown to be worse than the median one.",
        "unnoticed": "Controls that the model does not notice.",
    }
    rows = []
    for member in study.members:
        for summary in study.summaries(member):
            low, high = mean_interval(member, summary.task) or (None, None)
            spread, worst = summary.variance, summary.worst_case
            rows.append([
                *_where(member, summary.task), member.report.task_type(summary.task),
                summary.metric_label, summary.item_count, len(summary.instructions),
                summary.mean, low, high, summary.chance, summary.scaled.mean,
                None if spread is None else spread.sigma,
                None if spread is None else spread.interval.low,
                None if spread is None else spread.interval.high,
                summary.worst.instruction_id, summary.worst.value,
                None if worst is None else worst.worst_wording,
                None if worst is None else worst.always_right,
                ", ".join(row.instruction_id for row in summary.broken),
                ", ".join(
                    check.instruction_id
                    for check in summary.control_checks
                    if check.verdict == "does not notice"
                ),
            ])  # fmt: skip
    question = "Does each model follow its instructions, however they are worded?"
    main = "model reading task mean mean_low mean_high chance sigma worst worst_value broken"
    return make_table("scores", question, columns, rows, main=main)


def wording_table(study: Study) -> Table:
    """How does each model do in each wording?

    Args:
        study: The study.

    Returns:
        One row for each model, reading, task and wording: a matrix, cell by cell.

    Raises:
        MissingExtraError: If scipy is not installed.
    """
    columns = WHERE | {
        "wording": "Id of the instruction.",
        "seen": "Whether the model's family was trained with it.",
        "value": "The metric.",
        "low": "Lower end of its 95 % interval.",
        "high": "Upper end.",
        "difference": "Value minus that of the task's median wording.",
        "adjusted_p": "p of the difference, by Holm's correction over the task's wordings.",
        "broken": "Whether it is shown to be worse than the median wording.",
        "unread": "Written answers that name none of the choices.",
        "cut": "Prompts that lost tokens.",
    }
    rows = []
    for member in study.members:
        for summary in study.summaries(member):
            tests = {row.instruction_id: row for row in summary.against_median}
            broken = {row.instruction_id for row in summary.broken}
            for row in summary.instructions:
                test = tests.get(row.instruction_id)
                rows.append([
                    *_where(member, summary.task), row.instruction_id, row.seen, row.value,
                    *row.interval, None if test is None else test.difference,
                    None if test is None else test.adjusted_p, row.instruction_id in broken,
                    row.unread, row.cut,
                ])  # fmt: skip
    question = "How does each model do in each wording?"
    main = "model reading task wording seen value low high broken"
    return make_table("wordings", question, columns, rows, main=main)


def broken_table(study: Study) -> Table:
    """Which wording breaks which model?

    Args:
        study: The study.

    Returns:
        One row for each wording that is shown to be worse than the median one of its task, the
        largest loss first. `study_p` is corrected over all tests of the study, so a wording above
        .05 there may be one of the false alarms that many tasks and models bring.

    Raises:
        MissingExtraError: If scipy is not installed.
    """
    columns = WHERE | {
        "wording": "Id of the instruction.",
        "text": "Its template.",
        "seen": "Whether the model's family was trained with it.",
        "value": "The metric under it.",
        "median": "That under the median wording of the task.",
        "difference": "Value minus median.",
        "low": "Lower end of the difference's 95 % interval.",
        "high": "Upper end.",
        "adjusted_p": "p by Holm's correction over the task's wordings.",
        "study_p": "p by Holm's correction over all wordings, tasks and models of the study.",
    }
    tested, every = [], []
    for member in study.members:
        for summary in study.summaries(member):
            broken = {row.instruction_id for row in summary.broken}
            for row in summary.against_median:
                every.append(row.test.p_value)
                tested.append((member, summary, row, row.instruction_id in broken))
    rows: list[list[Value]] = []
    for (member, summary, row, is_broken), study_p in zip(tested, holm(every), strict=True):
        if is_broken:
            score = next(s for s in summary.instructions if s.instruction_id == row.instruction_id)
            rows.append([
                *_where(member, summary.task), row.instruction_id, score.text, score.seen,
                row.second_value, row.first_value, row.difference, *row.interval, row.adjusted_p,
                study_p,
            ])  # fmt: skip
    place = list(columns).index("difference")
    rows.sort(key=lambda row: float(row[place] or 0))
    main = "model reading task wording value median difference low high study_p"
    empty = "Not one wording is shown to be worse than the median one of its task."
    question = "Which wording breaks which model?"
    return make_table("broken", question, columns, rows, main=main, empty=empty)


def control_table(study: Study) -> Table:
    """Does each model notice an instruction that does not ask for the right answer?

    Args:
        study: The study.

    Returns:
        One row for each control.

    Raises:
        MissingExtraError: If scipy is not installed.
    """
    columns = WHERE | {
        "control": "Id of the instruction.",
        "kind": "negated, wrong or empty.",
        "value": "The metric under the control.",
        "wordings_mean": "The mean over wordings, on the same items.",
        "difference": "Value minus mean.",
        "low": "Lower end of its interval; those of a task's controls hold together.",
        "high": "Upper end.",
        "verdict": "notices, does not notice, or undecided.",
    }
    rows = []
    for member in study.members:
        for summary in study.summaries(member):
            for check in summary.control_checks:
                found = check.difference
                low, high = (None, None) if found is None else found.interval
                rows.append([
                    *_where(member, summary.task), check.instruction_id, check.kind, check.value,
                    check.wordings_mean, None if found is None else found.mean, low, high,
                    check.verdict,
                ])  # fmt: skip
    question = "Does each model notice what does not ask for the right answer?"
    main = "model reading task control kind value wordings_mean verdict"
    empty = "The reports have wordings alone, and not a control."
    return make_table("controls", question, columns, rows, main=main, empty=empty)


def mean_interval(member: Member, task: str) -> Interval | None:
    """The 95 % interval of a mean over wordings, for other items and other wordings like these.

    Args:
        member: A report of the study.
        task: Name of one of its tasks.

    Returns:
        The interval; for one wording that of other items alone; None for one independent item.

    Raises:
        MissingExtraError: If scipy is not installed.
    """
    summary, cells = member.report.summary(task), member.report.task_cells(task)
    groups = item_groups(cells[0])
    if summary.independent_count < 2:
        return None
    if len(cells) == 1:
        return score_interval(cells[0].metric, cells[0].parts, groups=groups)
    values = value_matrix(cells)
    half = variance_components(values, groups=groups).half_width(*values.shape)
    return Interval(max(0.0, summary.mean - half), min(1.0, summary.mean + half))


def _where(member: Member, task: str) -> tuple[str, str, str]:
    return member.card.name, member.reading, task
