"""Pictures of several tasks or models together, each with its answer in a sentence."""

from collections.abc import Mapping, Sequence
from html import escape
from statistics import fmean
from typing import NamedTuple

from metro_fast._page import Html, Section
from metro_fast.errors import MetroFastError
from metro_fast.robustness.facets import Facet, facets
from metro_fast.robustness.kind_gaps import kind_gaps
from metro_fast.robustness.page import plots
from metro_fast.robustness.page.pictures import Picture, picture_html
from metro_fast.robustness.page.text import gap_sentence, p_value, percent, plain_list, points
from metro_fast.robustness.page.view import ModelView, provenance

__all__ = ["facet_section", "folded", "gap_section", "scale_section", "slope_section"]


def folded(heading: str, answer: str, body: str, *, opened: bool = False) -> Section:
    """A section whose heading and answer are shown, and whose body is folded.

    Args:
        heading: The heading, as text.
        answer: The sentence that says what the body shows, as text.
        body: HTML.
        opened: Whether the body is shown when the page is loaded.
    """
    attribute = " open" if opened else ""
    return Section(
        heading,
        f'<details class="fold"{attribute}>\n<summary>{escape(answer)}</summary>\n{body}'
        "</details>\n",
    )


class _Gap(NamedTuple):
    row: plots.Estimate
    sentence: str
    numbers: tuple[str | float, ...]
    clear: bool


def gap_section(views: Sequence[ModelView]) -> Section | None:
    """Seen against unseen wordings: an interval, a p and an effect size for each model."""
    found = [gap for view in views for gap in _gaps(view)]
    if not found:
        return None
    clear = sum(gap.clear for gap in found)
    answer = f"{clear} of {len(found)} intervals exclude equality of seen and unseen wordings."
    if len(found) == 1:
        answer = found[0].sentence
    picture = Picture(
        "seen-unseen",
        "Mean on seen minus unseen wordings of each model, in points. " + answer,
        "Seen minus unseen wordings, in points, with 95 % intervals for other items and other "
        "wordings like these, in the same tasks. Right of zero: better on wordings seen in "
        "training.",
        ("model", "tasks", "gap", "low", "high", "p", "Cohen's h", "seen", "unseen", "source"),
        [gap.numbers for gap in found],
        (6.6, 0.9 + 0.36 * len(found)),
        lambda figure: plots.intervals(figure, [g.row for g in found], unit="points"),
    )
    sentences = plain_list([escape(gap.sentence) for gap in found])
    return folded("Seen against unseen wordings", answer, picture_html(picture) + sentences)


def _gaps(view: ModelView) -> list[_Gap]:
    rows = []
    for tasks, gap in kind_gaps(view.report):
        low, high = gap.interval
        several = len(tasks) > 1
        kind = view.report.task_type(tasks[0])
        about = f"{len(tasks)} tasks of {kind}" if several else tasks[0]
        test = "no test" if gap.p_value is None else f"p {p_value(gap.p_value)}"
        effect = f"Cohen's h {gap.effect_size:+.2f}".replace("-", "\N{MINUS SIGN}")
        source = provenance(view.report.summary(tasks[0]))
        sentence = f"{gap_sentence(view.name, gap, about)} {test}, {effect}; {gap.note}."
        rows.append(
            _Gap(
                plots.Estimate(
                    f"{view.name}, {about}", 100 * gap.gap, 100 * low, 100 * high,
                    f"{sentence} {source}",
                ),
                sentence,
                (
                    view.name, ", ".join(tasks), 100 * gap.gap, 100 * low, 100 * high,
                    "" if gap.p_value is None else gap.p_value, gap.effect_size, gap.seen_count,
                    gap.unseen_count, source,
                ),
                not low <= 0 <= high,
            )
        )  # fmt: skip
    return rows


def slope_section(views: Sequence[ModelView], baseline: Mapping[str, ModelView]) -> Section | None:
    """From each reference to the models that are compared with it, task by task."""
    panels, numbers, worse, total = [], [], 0, 0
    for first in dict.fromkeys(c.first for view in views for c in view.comparisons):
        after = [view for view in views if any(c.first == first for c in view.comparisons)]
        names, drawn = [first, *(view.name for view in after)], []
        for task in baseline[first].report.tasks:
            marked = False
            points_of: list[tuple[int, float, str]] = []
            for place, view in enumerate(after, 1):
                reference = view.references.get(task)
                if reference is None or reference.comparison.first != first:
                    continue
                each = reference.task
                source = provenance(view.report.summary(task))
                if not points_of:
                    text = f"{first} on {task}: {percent(each.first_mean)}"
                    points_of.append((0, 100 * each.first_mean, text))
                change = points(each.difference.mean)
                text = (
                    f"{view.name} on {task}: {percent(each.second_mean)}, {change}; {each.verdict}"
                )
                points_of.append((place, 100 * each.second_mean, f"{text}; {source}"))
                marked |= each.verdict == "worse"
                worse, total = worse + (each.verdict == "worse"), total + 1
                numbers.append(
                    (
                        first, view.name, task, 100 * each.first_mean, 100 * each.second_mean,
                        100 * each.difference.mean, 100 * each.difference.interval.low,
                        100 * each.difference.interval.high, each.verdict, source,
                    )
                )  # fmt: skip
            if points_of:
                drawn.append(plots.Line(task, points_of, marked))
        if drawn:
            panels.append((names, drawn))
    if not panels:
        return None
    answer = f"{worse} of {total} comparisons with a reference are worse (dashed, in red)."
    width = sum(1.1 * len(names) for names, _ in panels) + 1.6
    picture = Picture(
        "slopes",
        f"Mean over wordings of each task, from the reference to each model. {answer}",
        "The mean over wordings of each task, from the reference at the left to the models that "
        "are compared with it. Dashed, in red and named: worse in its mean, its spread or some "
        "wording.",
        (
            "reference", "model", "task", "reference mean", "mean", "difference", "low", "high",
            "verdict", "source",
        ),
        numbers,
        (min(max(width, 5.5), 11.0), 3.4),
        lambda figure: plots.lines(figure, panels, unit="mean over wordings, %"),
    )  # fmt: skip
    return folded("From original to compressed", answer, picture_html(picture))


def facet_section(views: Sequence[ModelView]) -> Section | None:
    """Tasks by their kind, on the scale where 0 is guessing and 1 is perfect."""
    found: list[tuple[ModelView, Facet]] = []
    reasons = []
    for view in views:
        try:
            found += [(view, facet) for facet in facets(view.report)]
        except MetroFastError as error:
            reasons.append(f"{view.name}: {error}.")
    kinds = list(dict.fromkeys(facet.task_type for _, facet in found))
    notes = plain_list([escape(reason) for reason in reasons]) if reasons else ""
    if not found:
        return (
            folded("Kinds of tasks", "No kind of task can be averaged.", notes) if notes else None
        )
    rows, numbers = _facet_rows(found, kinds)
    means = {
        kind: fmean(facet.scaled.mean for _, facet in found if facet.task_type == kind)
        for kind in kinds
    }
    answer = (
        "Where 0 is guessing and 1 is perfect, the models have "
        + " and ".join(f"{mean:.2f} on {kind}" for kind, mean in means.items())
        + " on average."
    )
    picture = Picture(
        "kinds",
        f"Mean and worst wording by kind of task. {answer}",
        "The mark is the mean over tasks and wordings, the line goes to that of the worst "
        "wordings; 0 is guessing and 1 is perfect.",
        (
            "model", "kind", "tasks", "metric", "scaled mean", "scaled worst", "scaled sigma",
            "relative sigma", "drop rate", "source",
        ),
        numbers,
        (6.6, 1.2 + 0.34 * len(rows)),
        lambda figure: plots.intervals(
            figure, rows, unit="scaled value", kinds=kinds, zero=min(r.low for r in rows) <= 0
        ),
    )  # fmt: skip
    return folded("Kinds of tasks", answer, picture_html(picture) + notes)


def _facet_rows(
    found: Sequence[tuple[ModelView, Facet]], kinds: Sequence[str]
) -> tuple[list[plots.Estimate], list[tuple[str | float, ...]]]:
    """The marks of the picture, and its numbers."""
    rows = []
    numbers: list[tuple[str | float, ...]] = []
    for view, facet in found:
        scaled, source = facet.scaled, provenance(view.report.summary(facet.tasks[0]))
        sigma = "" if scaled.sigma is None else f", \N{GREEK SMALL LETTER SIGMA} {scaled.sigma:.3f}"
        about = (
            f"{view.name}, {facet.task_type}, {len(facet.tasks)} tasks: mean {scaled.mean:.3f}, "
            f"worst wording {scaled.worst:.3f}{sigma}; {source}"
        )
        rows.append(
            plots.Estimate(
                f"{view.name}, {facet.task_type}",
                scaled.mean,
                scaled.worst,
                scaled.mean,
                about,
                kinds.index(facet.task_type),
            )
        )
        numbers.append(
            (
                view.name, facet.task_type, len(facet.tasks), facet.metric, scaled.mean,
                scaled.worst, "" if scaled.sigma is None else scaled.sigma,
                "" if scaled.relative_sigma is None else scaled.relative_sigma,
                "" if facet.drop_rate is None else facet.drop_rate, source,
            )
        )  # fmt: skip
    return rows, numbers


def scale_section(views: Sequence[ModelView], unit: str) -> Section | None:
    """The mean and the worst wording by size, over the tasks that all models have."""
    sized = sorted((v for v in views if v.size), key=lambda view: view.size or 0)
    shared = [
        task
        for task in (sized[0].report.tasks if sized else ())
        if len({_wordings(view, task) for view in sized}) == 1
    ]
    if len({view.size for view in sized}) < 2 or not shared:
        return None
    series: dict[str, list[tuple[float, float]]] = {"mean": [], "worst wording": []}
    marks: dict[str, list[str]] = {"mean": [], "worst wording": []}
    numbers: list[tuple[str | float, ...]] = []
    for view in sized:
        found = [view.report.summary(task) for task in shared]
        source = provenance(found[0])
        size = float(view.size or 0)
        values = {
            "mean": fmean(100 * s.mean for s in found),
            "worst wording": fmean(100 * s.worst.value for s in found),
        }
        for name, value in values.items():
            series[name].append((size, value))
            text = f"{view.name}, {size:,.0f} {unit}: {name} {value:.1f} %"
            marks[name].append(f"{text}, {len(shared)} tasks; {source}")
        numbers.append((view.name, size, *values.values(), len(shared), source))
    ends = [
        f"the {name} from {values[0][1]:.1f} to {values[-1][1]:.1f} %"
        for name, values in series.items()
    ]
    answer = f"From {sized[0].name} to {sized[-1].name}, {' and '.join(ends)}."
    picture = Picture(
        "scale",
        f"Mean and worst wording by {unit}. {answer}",
        f"Mean over the {len(shared)} tasks that all of these models have in the same wordings.",
        ("model", unit, "mean", "worst wording", "tasks", "source"),
        numbers,
        (6.6, 3.2),
        lambda figure: plots.curves(figure, series, x=unit, y="%", logarithmic=True, marks=marks),
    )
    return folded(f"Value by {unit}", answer, Html(picture_html(picture)))


def _wordings(view: ModelView, task: str) -> tuple[str, ...] | None:
    """The things that are the same where tasks may be in one curve; None without the task."""
    if task not in view.report.tasks:
        return None
    summary = view.report.summary(task)
    ids = sorted(row.instruction_id for row in summary.instructions)
    return (summary.items_hash, summary.preset, summary.metric, *ids)
