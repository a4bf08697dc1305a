"""Flipped items, controls, and likelihood against generation."""

from collections.abc import Sequence
from html import escape

from metro_fast._page import Html, Section, table
from metro_fast.robustness.compare import why_not_pairable
from metro_fast.robustness.page import plots
from metro_fast.robustness.page.flips import KINDS, Flip, Flips, flips_of
from metro_fast.robustness.page.overview import folded
from metro_fast.robustness.page.pictures import Picture, picture_html
from metro_fast.robustness.page.tables import instruction_table, quiet
from metro_fast.robustness.page.text import control_sentence, interval, percent, plain_list, points
from metro_fast.robustness.page.view import ModelView, provenance
from metro_fast.robustness.readings import ReadingComparison, compare_readings
from metro_fast.robustness.report import Report

__all__ = ["control_section", "flip_section", "reading_section"]


def flip_section(views: Sequence[ModelView]) -> Section | None:
    """How many answers flip from the reference to each model, in three kinds, and examples."""
    reports = {view.name: view.report for view in views}
    found = [flips for view in views if (flips := flips_of(view, reports)) is not None]
    if not found:
        return None
    sources = {view.name: provenance(view.summaries[0]) for view in views}
    bars, numbers = [], []
    for flips in found:
        parts = []
        for kind, count in zip(KINDS, flips.counts, strict=True):
            about = f"{flips.name} against {flips.reference}: {count:,} of {flips.total:,} {kind}"
            parts.append((100 * count / flips.total, f"{about}; {sources[flips.name]}"))
        bars.append(plots.Bar(f"{flips.name}, against {flips.reference}", parts))
        row = (flips.name, flips.reference, *flips.counts, flips.total, sources[flips.name])
        numbers.append(row)
    with_reference = {view.name for view in views if view.references}
    compared = [flips for flips in found if flips.name in with_reference] or found
    most = max(compared, key=lambda flips: flips.counts[0] / flips.total)
    answer = (
        f"{most.name} loses most: {percent(most.counts[0] / most.total)} of all answers were right "
        f"under {most.reference} and are wrong, {percent(most.counts[1] / most.total)} are gained."
    )
    picture = Picture(
        "flips",
        f"Answers that differ from those of the reference, in three kinds. {answer}",
        "Share of all answers (items under wordings). A model without a reference is compared with "
        "its own answers under its median wording.",
        ("model", "against", *KINDS, "answers", "source"),
        numbers,
        (6.6, 1.2 + 0.42 * len(bars)),
        lambda figure: plots.stacked(figure, bars, KINDS, unit="% of answers"),
    )
    return folded(
        "Flipped items", answer, picture_html(picture) + "".join(map(_flip_examples, found))
    )


def _flip_examples(flips: Flips) -> str:
    parts = [
        f"<h4>{escape(kind.capitalize())}</h4>\n{''.join(map(_flip, examples))}"
        for kind, examples in zip(KINDS, flips.examples, strict=True)
        if examples
    ]
    name = escape(
        f"{flips.name} against {flips.reference}: items that flip under the most wordings"
    )
    return f"<details>\n<summary>{name}</summary>\n{''.join(parts)}</details>\n" if parts else ""


def _flip(flip: Flip) -> str:
    mark = ("right" if answer == flip.right else "wrong" for answer in (flip.before, flip.after))
    before, after = (
        f'<span class="{kind}">{escape(answer or "(names no choice)")}</span>'
        for kind, answer in zip(mark, (flip.before, flip.after), strict=True)
    )
    count = len(flip.wordings)
    named = ", ".join(flip.wordings[:8])
    note = f"Item {flip.item_id} of {flip.task}, under {count} wordings: {named}"
    note += "." if count <= 8 else f" and {count - 8} more."
    return (
        f"<article>\n<blockquote>{escape(flip.text)}</blockquote>\n<p>{before} before, "
        f"{after} now; correct is {escape(flip.right)}. {quiet(note)}</p>\n</article>\n"
    )


def control_section(views: Sequence[ModelView]) -> Section | None:
    """Whether the models notice that they are not asked for the right answer."""
    checks = [
        (view, s, check) for view in views for s in view.summaries for check in s.control_checks
    ]
    if not checks:
        return None
    deaf = sum(check.verdict == "does not notice" for _, _, check in checks)
    heard = sum(check.verdict == "notices" for _, _, check in checks)
    answer = (
        f"Of {len(checks)} checks with controls, {heard} show that the model notices that it is "
        f"not asked for the right answer, and {deaf} that it does not."
    )
    sentences = plain_list(
        [
            f"{escape(control_sentence(view.name, check, s.task))} {quiet(provenance(s))}"
            for view, s, check in checks
        ]
    )
    tables = []
    for task in dict.fromkeys(s.task for _, s, _ in checks):
        with_it = [s for view in views for s in view.summaries if s.task == task]
        tables.append(f"<h4>{escape(task)}</h4>\n{instruction_table(with_it, controls=True)}")
    body = (
        '<p class="quiet">Controls do not ask for the right answer, and enter no other number. A '
        "model whose value stays the same does not follow its instructions.</p>\n"
        + sentences
        + "".join(tables)
    )
    return folded("Controls", answer, body)


def reading_section(views: Sequence[ModelView]) -> Section | None:
    """The same cells of one model under two protocols."""
    found = [
        (first, second, compare_readings(first.report, second.report, task))
        for place, first in enumerate(views)
        for second in views[place + 1 :]
        for task in _shared(first.report, second.report)
    ]
    if not found:
        return None
    estimates, numbers, rows = [], [], []
    for first, second, each in found:
        mean, ends = each.difference.mean, each.difference.interval
        source = f"{provenance(first.report.summary(each.task))}, and {each.second_preset}"
        text = f"{second.name} minus {first.name} on {each.task}"
        estimates.append(
            plots.Estimate(
                text,
                100 * mean,
                100 * ends.low,
                100 * ends.high,
                f"{text}: {points(mean)} {interval(ends)}; {source}",
            )
        )
        numbers.append(
            (
                first.name, second.name, each.task, 100 * mean, 100 * ends.low, 100 * ends.high,
                each.agreement, each.first_unread, each.second_unread, source,
            )
        )  # fmt: skip
        rows.append(_reading_row(text, each))
    same = sum(each.agreement for _, _, each in found) / len(found)
    answer = f"The two ways of reading an answer agree on {percent(same)} of the answers."
    picture = Picture(
        "readings",
        f"The second protocol minus the first, on the same cells of one model. {answer}",
        "The second protocol minus the first, in points, with 95 % intervals over items.",
        (
            "first", "second", "task", "difference", "low", "high", "same answer", "first unread",
            "second unread", "source",
        ),
        numbers,
        (6.6, 0.9 + 0.44 * len(found)),
        lambda figure: plots.intervals(figure, estimates, unit="points"),
    )  # fmt: skip
    head = ("Readings", "Difference", "Change of spread", "Same answer", "Unread", "Then unread")
    body = picture_html(picture) + table(head, rows, label="Readings")
    return folded("Likelihood against generation", answer, body)


def _reading_row(text: str, each: ReadingComparison) -> list[str]:
    spread = each.spread
    return [
        text,
        Html(f"{points(each.difference.mean)} {quiet(interval(each.difference.interval))}"),
        "\N{EN DASH}"
        if spread is None
        else f"{points(spread.difference)} {interval(spread.interval)}",
        percent(each.agreement),
        percent(each.first_unread),
        percent(each.second_unread),
    ]


def _shared(first: Report, second: Report) -> list[str]:
    """The tasks that one model was asked in two ways."""
    one, two = first.cells[0].record, second.cells[0].record
    if one.model_hash != two.model_hash or one.protocol_hash == two.protocol_hash:
        return []
    return [
        task
        for task in first.tasks
        if task in second.tasks
        and why_not_pairable(first, second, task, same_protocol=False) is None
    ]
