"""The first screen: a sentence for each model, and its matrix of tasks and wordings."""

from collections.abc import Mapping, Sequence
from html import escape

from metro_fast.robustness.page.matrix_picture import matrix_picture
from metro_fast.robustness.page.pictures import download_links
from metro_fast.robustness.page.sentences import broken_sentence, model_sentence
from metro_fast.robustness.page.text import percent
from metro_fast.robustness.page.view import BrokenCell, ModelView, provenance
from metro_fast.robustness.summary import InstructionScore, TaskSummary

__all__ = ["first_screen", "short"]

_DENSE = 10
"""Wordings above which a cell shows its shade alone: on a third of a page it is 14 pixels wide."""
_LISTED = 3
_LETTERS = 13
_CROSS, _DOWN = "\N{MULTIPLICATION X}", "\N{BLACK DOWN-POINTING TRIANGLE}"


def first_screen(views: Sequence[ModelView], anchors: Mapping[str, str]) -> str:
    """The sentences, and below them the matrices.

    Args:
        views: The models.
        anchors: By name of task the id of its section.
    """
    sentences = "".join(
        f'<li class="{"bad" if view.is_worse else "fine"}">{_emphasized(view)}</li>\n'
        for view in views
    )
    links = download_links(matrix_picture(views))
    legend = (
        f'<p class="legend"><span><b class="mark">{_CROSS}</b> shown to be below the median '
        f'wording of the model</span> <span><b class="mark">{_DOWN}</b> shown to be below the '
        'reference</span> <span><span class="swatch v0"></span> 0 to <span class="swatch v9">'
        '</span> 100 %</span> <span>Rows are tasks, columns <a href="#wordings">wordings</a>, '
        f'underlined where seen in training</span> <span class="downloads">{links}</span></p>\n'
    )
    cards = "".join(_card(view, anchors) for view in views)
    return f'<ul class="verdicts">\n{sentences}</ul>\n{legend}<div class="cards">\n{cards}</div>\n'


def _emphasized(view: ModelView) -> str:
    """The sentence, with the name of the model in bold type at its first place."""
    sentence = model_sentence(view)
    before, name, after = sentence.partition(view.name)
    return f"{escape(before)}<strong>{escape(name)}</strong>{escape(after)}"


def short(name: str, letters: int = _LETTERS) -> str:
    """A name that fits into a narrow place.

    Example:
        >>> short("relations"), short("a-task-of-a-very-long-name")
        ('relations', 'a-task-of-a-…')
    """
    return name if len(name) <= letters else f"{name[: letters - 1]}\N{HORIZONTAL ELLIPSIS}"


def _card(view: ModelView, anchors: Mapping[str, str]) -> str:
    broken = {(cell.task, cell.wording): cell for cell in view.broken}
    most = max(len(summary.instructions) for summary in view.summaries)
    blocks, previous = [], None
    for summary in view.summaries:
        ids = tuple(row.instruction_id for row in summary.instructions)
        if ids != previous:
            blocks.append(_head(summary.instructions))
            previous = ids
        blocks.append(_row(summary, broken, anchors[summary.task], most))
    count = len(view.broken)
    badge = "nothing is shown to be broken" if not count else f"{count} of {view.cell_count} broken"
    kind = "matrix dense" if most > _DENSE else "matrix"
    label = escape(f"Values of {view.name} by task and wording")
    return (
        f'<article class="card"><h3>{escape(view.name)} <span class="badge '
        f'{"bad" if count else "fine"}">{badge}</span></h3>\n'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">'
        f'<table class="{kind}" style="--columns:{most}"><tbody>{"".join(blocks)}</tbody></table>'
        f"</div>\n{_list(view)}</article>\n"
    )


def _head(rows: Sequence[InstructionScore]) -> str:
    cells = "".join(
        f'<th scope="col"{" class=seen" if row.seen else ""} title="{escape(_named(row))}">{n}</th>'
        for n, row in enumerate(rows, 1)
    )
    return f"<tr><td></td>{cells}</tr>"


def _named(row: InstructionScore) -> str:
    return f"{row.instruction_id} ({'seen' if row.seen else 'unseen'})"


def _row(
    summary: TaskSummary, broken: Mapping[tuple[str, str], BrokenCell], anchor: str, most: int
) -> str:
    cells = []
    for row in summary.instructions:
        cell = broken.get((summary.task, row.instruction_id))
        hashes = f"{summary.model_hash[:8]}, {summary.items_hash[:8]}"
        label = escape(
            f"{row.instruction_id}, {summary.task}: {percent(row.value)} "
            f"[{100 * row.interval.low:.1f}, {100 * row.interval.high:.1f}]; {hashes}, "
            f"{row.correct} of {row.total} right"
        )
        if cell is None:
            shade = min(int(10 * row.value), 9)
            cells.append(f'<td class="v{shade}" title="{label}">{100 * row.value:.0f}</td>')
        else:
            full = escape(f"broken: {cell.wording} on {cell.task}, {broken_sentence(cell)}")
            value = "" if most > _DENSE else f"{100 * row.value:.0f}"
            cells.append(
                f'<td class="broken"><a href="#{anchor}" title="{full}; {label}" '
                f'aria-label="{full}">{cell.mark}{value}</a></td>'
            )
    name = escape(summary.task)
    return (
        f'<tr><th scope="row" title="{name}: {escape(provenance(summary))}"><a href="#{anchor}">'
        f"{escape(short(summary.task))}</a></th>{''.join(cells)}</tr>"
    )


def _list(view: ModelView) -> str:
    """The broken cells by name; those beyond the first few are folded."""
    if not view.broken:
        return ""
    lines = [_line(cell, view) for cell in view.broken]
    listed = f'<ul class="broken-list">\n{"".join(lines[:_LISTED])}</ul>\n'
    more = lines[_LISTED:]
    if more:
        listed += (
            f"<details><summary>{len(more)} more</summary>"
            f'<ul class="broken-list">\n{"".join(more)}</ul></details>\n'
        )
    return listed


def _line(cell: BrokenCell, view: ModelView) -> str:
    source = provenance(view.report.summary(cell.task))
    return (
        f'<li title="{escape(source)}"><b class="mark">{cell.mark}</b> <strong>'
        f"{escape(cell.wording)}</strong> on <strong>{escape(cell.task)}</strong>: "
        f"{escape(broken_sentence(cell))}</li>\n"
    )
