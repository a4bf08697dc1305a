"""How many items and wordings are needed, for every model and task of a study."""

from typing import Literal

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.robustness.common_items import item_groups, value_matrix
from metro_fast.robustness.planning import Plan, plan_budget, plan_precision, variance_components
from metro_fast.robustness.study.scores import WHERE
from metro_fast.robustness.study.study import Member, Study
from metro_fast.robustness.study.table import Table, Value, make_table

__all__ = ["plan_table"]


def plan_table(
    study: Study,
    *,
    half_width: float | None = None,
    budget: int | None = None,
    of: Literal["mean", "gap"] = "mean",
    max_items: int = 1_000_000,
    max_wordings: int = 200,
) -> Table:
    """How many items and wordings does a precision need, or a number of answers allow?

    Args:
        study: The study, from whose answers the variances come.
        half_width: Wanted half width of the 95 % interval, such as 0.02 for two points.
        budget: Most answers to ask a model for, over all wordings and items.
        of: Precision of the mean over wordings, or of the gap of seen and unseen ones.
        max_items: How many items there can be.
        max_wordings: How many wordings there can be; of each side, for a gap.

    Returns:
        One row for each model, reading and task.

    Raises:
        MetroFastError: If not exactly one of `half_width` and `budget` is given, one is out of
            range or beyond what there can be, or a task has too few wordings or items.
        MissingExtraError: If scipy is not installed.
    """
    if (half_width is None) == (budget is None):
        raise MetroFastError("give one of half_width and budget")
    if of not in ("mean", "gap"):
        raise MetroFastError(f"of is {quoted(of)}; give mean or gap")
    columns = WHERE | {
        "wordings": "Number of wordings; of each side, for a gap.",
        "more_wordings": "How many of these are missing.",
        "items": "Number of items.",
        "more_items": "How many of these are missing.",
        "answers": "Answers that a model gives then.",
        "half_width": "Expected half width of the 95 % interval.",
    }
    rows: list[list[Value]] = []
    for member in study.members:
        for task in member.report.tasks:
            plan = _plan(member, task, half_width, budget, of, (max_items, max_wordings))
            rows.append([
                member.card.name, member.reading, task, plan.wordings, plan.more_wordings,
                plan.items, plan.more_items, plan.answers, plan.half_width,
            ])  # fmt: skip
    notes = ["The wordings are those of each side, seen and unseen."] if of == "gap" else []
    question = "How many items and wordings are needed?"
    return make_table("plan", question, columns, rows, notes, main=" ".join(columns))


def _plan(
    member: Member,
    task: str,
    half_width: float | None,
    budget: int | None,
    of: str,
    most: tuple[int, int],
) -> Plan:
    cells = member.report.task_cells(task)
    seen = [cell.record.seen for cell in cells]
    smaller = min(sum(seen), len(seen) - sum(seen))
    where = f"{member.card.name} on {task}"
    if of == "gap" and smaller < 2:
        raise MetroFastError(
            f"{where} has {sum(seen)} seen wordings of {len(seen)}: a plan for the gap needs at "
            "least 2 seen and 2 unseen ones"
        )
    values = value_matrix(cells)
    components = variance_components(
        values, seen=seen if of == "gap" else None, groups=item_groups(cells[0])
    )
    have = {"wordings": smaller if of == "gap" else len(cells), "items": values.shape[1]}
    max_items, max_wordings = most
    if half_width is not None:
        found = plan_precision(components, half_width, **have)
        if found.items > max_items or found.wordings > max_wordings:
            raise MetroFastError(
                f"{where} needs {found.wordings} wordings and {found.items:,} items, more than "
                "there can be: ask for a wider interval"
            )
        return found
    return plan_budget(
        components, budget or 0, most_wordings=max_wordings, most_items=max_items, **have
    )
