"""Does a larger model of the family do better, and is it more robust?"""

from metro_fast.robustness.statistics import holm
from metro_fast.robustness.study.scores import WHERE, mean_interval
from metro_fast.robustness.study.study import Member, Study
from metro_fast.robustness.study.table import Table, Value, make_table

__all__ = ["scale_table"]


def scale_table(study: Study, *, margin: float = 0.01) -> Table:
    """Value and spread against size, within a family.

    Args:
        study: The study, whose cards have the sizes.
        margin: Differences of the metric up to this count as equal.

    Returns:
        One row for each point of a curve, from small to large: a model on a task. A curve has the
        models of one family and kind that were asked alike, of two sizes at least; each model but
        the smallest is compared with the next smaller one, on the same items and wordings.

    Raises:
        MetroFastError: If the margin is out of range.
        MissingExtraError: If scipy is not installed.
    """
    columns = {
        "family": "Models of one family are on one curve.",
        "kind": "base, expert, compressed, merged, or other.",
        "reading": WHERE["reading"],
        "task": WHERE["task"],
        "model": WHERE["model"],
        "size": "Number of parameters.",
        "mean": "Mean of the metric over the wordings.",
        "mean_low": "Lower end of its 95 % interval, for other items and wordings like these.",
        "mean_high": "Upper end.",
        "sigma": "Standard deviation over wordings, without noise.",
        "worst_value": "The value of the worst wording.",
        "smaller": "The next smaller model, with which it is compared.",
        "difference": "Mean minus that of the smaller one, on the same items.",
        "low": "Lower end of the difference's 95 % interval.",
        "high": "Upper end.",
        "adjusted_p": "p of the difference, by Holm's correction over the rows.",
    }
    rows: list[list[Value]] = []
    notes = []
    p_values: list[float] = []
    tested: list[list[Value]] = []
    for (family, kind, reading, task), members in _curves(study).items():
        if len({member.card.size for member in members}) < 2:
            continue
        for place, member in enumerate(members):
            summary = member.report.summary(task)
            low, high = mean_interval(member, task) or (None, None)
            row: list[Value] = [
                family, kind, reading, task, member.card.name, member.card.size, summary.mean, low,
                high, None if summary.variance is None else summary.variance.sigma,
                summary.worst.value, None, None, None, None, None,
            ]  # fmt: skip
            rows.append(row)
            smaller = _smaller(members, place)
            if smaller is None:
                continue
            other, reason = study.partner(member, smaller.card.name, task)
            if other is None:
                notes.append(f"{member.card.name} against {smaller.card.name}: {reason}.")
                continue
            found = study.comparison(other, member, task, margin=margin).task(task)
            row[-5:-1] = [other.card.name, found.difference.mean, *found.difference.interval]
            p_values.append(found.p_value)
            tested.append(row)
    for row, p in zip(tested, holm(p_values), strict=True):
        row[-1] = p
    unsized = [card.name for card in study.cards if card.size is None]
    if unsized:
        notes.append(f"The cards of {', '.join(unsized)} have no size, so they are on no curve.")
    question = "Does a larger model of the family do better?"
    main = "family kind reading task model size mean mean_low mean_high sigma difference adjusted_p"
    empty = "The models of each family and kind have one size, so they make no curve."
    return make_table("scale", question, columns, rows, notes, main=main, empty=empty)


def _curves(study: Study) -> dict[tuple[str, str, str, str], list[Member]]:
    """The models of every curve, from small to large."""
    found: dict[tuple[str, str, str, str], list[Member]] = {}
    sized = [member for member in study.members if member.card.size is not None]
    for member in sorted(sized, key=lambda each: each.card.size or 0):
        for task in member.report.tasks:
            key = member.card.family, member.card.kind, member.reading, task
            found.setdefault(key, []).append(member)
    return found


def _smaller(members: list[Member], place: int) -> Member | None:
    """The last model before a place that has fewer parameters."""
    size = members[place].card.size or 0
    smaller = [member for member in members[:place] if (member.card.size or 0) < size]
    return smaller[-1] if smaller else None
