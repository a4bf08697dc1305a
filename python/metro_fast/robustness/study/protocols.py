"""Does it depend on how a model is asked, or on the wording, which model is best?"""

from itertools import combinations

from metro_fast.errors import MetroFastError
from metro_fast.robustness.compare import why_not_pairable
from metro_fast.robustness.rank_stability import model_ranks
from metro_fast.robustness.readings import compare_readings
from metro_fast.robustness.study.scores import WHERE
from metro_fast.robustness.study.study import Member, Study
from metro_fast.robustness.study.table import Table, Value, make_table

__all__ = ["rank_table", "reading_table"]


def reading_table(study: Study) -> Table:
    """Is what looks like sensitivity to wordings a matter of how answers are read?

    Args:
        study: The study.

    Returns:
        One row for each model, task and pair of readings, such as likelihood and written answers.

    Raises:
        MissingExtraError: If scipy is not installed.
    """
    columns = {
        "model": WHERE["model"],
        "task": WHERE["task"],
        "first": "One reading.",
        "second": "The other one.",
        "items": "Number of items.",
        "difference": "Mean of the second minus that of the first.",
        "low": "Lower end of its 95 % interval.",
        "high": "Upper end.",
        "sigma_difference": "Sigma over wordings of the second minus that of the first.",
        "sigma_low": "Lower end of its 95 % interval.",
        "sigma_high": "Upper end.",
        "agreement": "Share of answers that are the same.",
        "first_unread": "Share of the first one's answers that name none of the choices.",
        "second_unread": "Share of the second one's.",
        "worst_wording": "The wording under which the second reading loses most.",
        "worst_difference": "How much it differs there.",
    }
    rows: list[list[Value]] = []
    notes = []
    for card in study.cards:
        for first, second in combinations(study.of(card.name), 2):
            shared = [task for task in first.report.tasks if task in second.report.tasks]
            for task in shared:
                try:
                    found = compare_readings(first.report, second.report, task)
                except MetroFastError as error:
                    notes.append(f"{card.name}, {first.reading} and {second.reading}: {error}.")
                    continue
                low, high = (None, None) if found.spread is None else found.spread.interval
                worst = min(found.instructions, key=lambda row: row.difference)
                rows.append([
                    card.name, task, first.reading, second.reading, found.item_count,
                    found.difference.mean, *found.difference.interval,
                    None if found.spread is None else found.spread.difference, low, high,
                    found.agreement, found.first_unread, found.second_unread,
                    worst.instruction_id, worst.difference,
                ])  # fmt: skip
    question = "Does it matter how the answers are read?"
    main = "model task first second difference low high sigma_difference agreement second_unread"
    empty = "Each model was asked in one way."
    return make_table("readings", question, columns, rows, notes, main=main, empty=empty)


def rank_table(study: Study) -> Table:
    """Does the wording change which model is best?

    Args:
        study: The study.

    Returns:
        One row for each reading and task that two models at least were asked alike.

    Raises:
        MissingExtraError: If scipy is not installed.
    """
    columns = {
        "reading": WHERE["reading"],
        "task": WHERE["task"],
        "models": "The models, the best mean first.",
        "w": "Kendall's W: 1 where all wordings rank the models alike.",
        "tau": "Mean of Kendall's tau-b over pairs of wordings.",
        "p": "Friedman's test that the models are alike.",
        "best_share": "Share of the wordings under which the first model is the best.",
    }
    rows: list[list[Value]] = []
    notes = []
    for reading in study.readings:
        for task in study.tasks:
            members, left_out = _asked_alike(study, reading, task)
            notes += left_out
            if len(members) < 2 or len(members[0].report.task_cells(task)) < 2:
                continue
            found = model_ranks([member.report for member in members], task)
            ranked = sorted(members, key=lambda m: -m.report.summary(task).mean)
            names = ", ".join(member.card.name for member in ranked)
            rows.append([reading, task, names, *found])
    question = "Does the wording change which model is best?"
    main = "reading task models w tau best_share"
    empty = "A rank needs two models and two wordings."
    return make_table("ranks", question, columns, rows, notes, main=main, empty=empty)


def _asked_alike(study: Study, reading: str, task: str) -> tuple[list[Member], list[str]]:
    """The models that were asked a task as the first one was, and why others are left out."""
    members: list[Member] = []
    notes = []
    for member in study.members:
        if member.reading != reading or task not in member.report.tasks:
            continue
        reason = members and why_not_pairable(members[0].report, member.report, task)
        if reason:
            notes.append(f"{member.card.name}: {reason}.")
        else:
            members.append(member)
    return members, notes
