"""Is my expert still as good? Models against their base, compressed ones against the original."""

from collections.abc import Sequence
from typing import Literal

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.robustness.comparison import Comparison
from metro_fast.robustness.study.scores import WHERE
from metro_fast.robustness.study.study import Member, Study
from metro_fast.robustness.study.table import Table, Value, make_table
from metro_fast.robustness.study.together import judge_together

__all__ = ["pair_table", "reference_table"]

Pair = tuple[Member, Member, str, Comparison]

_COLUMNS = {
    "model": "The second model.",
    "reference": "The first model, with which it is compared.",
    "reading": WHERE["reading"],
    "task": WHERE["task"],
    "kind": "What the second model is: expert, compressed, merged.",
    "expert_bytes": "Bytes of its expert's weights file.",
    "density": "Share of its expert's weights that are not 0; none at full size.",
    "items": "Number of items.",
    "wordings": "Number of wordings.",
    "reference_mean": "The first model's mean over wordings.",
    "mean": "The second model's.",
    "difference": "Second minus first.",
    "low": "Lower end of its 95 % interval.",
    "high": "Upper end.",
    "adjusted_p": "p of the difference, by Holm's correction over the rows.",
    "sigma_difference": "Sigma over wordings of the second minus that of the first.",
    "sigma_low": "Lower end of its 95 % interval.",
    "sigma_high": "Upper end.",
    "worst_wording": "The wording under which the second model loses most.",
    "worst_difference": "How much it differs there.",
    "broken": "Wordings that are shown to have lost, corrected over those of all rows.",
    "agreement": "Share of answers that are the same.",
    "margin": "Differences up to this count as equal.",
    "verdict": "as robust, better, worse or undecided: of mean, spread and wordings together.",
    "own_verdict": "The verdict of this row by itself, which the sentence says.",
    "mean_verdict": "The verdict of the mean alone.",
    "spread_verdict": "The verdict of the spread alone.",
    "wordings_verdict": "The verdict of the single wordings.",
    "needed_items": "About how many items would show equality within the margin.",
    "sentence": "What this task shows by itself, in words.",
}


def reference_table(
    study: Study, reference: Literal["base", "original"] = "base", *, margin: float = 0.01
) -> Table:
    """Is each model still as good and as robust as its reference?

    Args:
        study: The study.
        reference: `base`: each model against the one that its card names as its base. `original`:
            each compressed expert against the one at full size.
        margin: Differences of the metric up to this count as equal; 0.01 is a point.

    Returns:
        One row for each model with such a reference, reading and task. Verdicts are corrected over
        the rows (`judge_together`).

    Raises:
        MetroFastError: If the margin or the reference is out of range.
        MissingExtraError: If scipy is not installed.
    """
    if reference not in ("base", "original"):
        raise MetroFastError(f"reference is {quoted(reference)}; give base or original")
    pairs, notes = [], []
    for member in study.members:
        card = member.card
        original = None if card.expert is None else card.expert.original
        name = card.base if reference == "base" else original
        if name is None:
            continue
        if not study.of(name):
            notes.append(f"{card.name}: its {reference} {name} is not in the study.")
            continue
        for task in member.report.tasks:
            other, reason = study.partner(member, name, task)
            if other is None:
                notes.append(f"{card.name} against {name}: {reason}.")
                continue
            pairs.append(
                (other, member, task, study.comparison(other, member, task, margin=margin))
            )
    question = (
        "Is each model still as good as its base?"
        if reference == "base"
        else "Is each compressed expert still as good as the one at full size?"
    )
    if not pairs and not notes:
        notes = [f"The cards name the {reference} of not one model."]
    return pair_table(f"against_{reference}", question, pairs, notes)


def pair_table(name: str, question: str, pairs: Sequence[Pair], notes: Sequence[str] = ()) -> Table:
    """The table of comparisons of pairs of models.

    Args:
        name: Name of the table.
        question: What it answers.
        pairs: The reference, the other model, the task, and their comparison.
        notes: What is left out.

    Returns:
        One row for each.
    """
    rows: list[list[Value]] = []
    judged = judge_together([comparison.task(task) for *_, task, comparison in pairs])
    for (first, second, task, comparison), found in zip(pairs, judged, strict=True):
        row, expert, spread = found.task, second.card.expert, found.task.spread
        low, high = (None, None) if spread is None else spread.interval
        rows.append([
            second.card.name, first.card.name, second.reading, task, second.card.kind,
            None if expert is None else expert.size_bytes,
            None if expert is None else expert.density,
            row.item_count, len(row.instructions), row.first_mean, row.second_mean,
            row.difference.mean, *row.difference.interval, found.adjusted_p,
            None if spread is None else spread.difference, low, high,
            row.worst.instruction_id, row.worst.difference,
            ", ".join(each.instruction_id for each in found.broken),
            row.agreement, row.margin, found.verdicts.overall, row.verdict, *found.verdicts,
            row.needed_items, comparison.sentence(task),
        ])  # fmt: skip
    main = (
        "model reference reading task density expert_bytes reference_mean mean difference low high"
    )
    main += " broken verdict"
    return make_table(name, question, _COLUMNS, rows, notes, main=main)
