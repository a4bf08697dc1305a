"""Items that show how the wording changes the answers of a model, as HTML."""

from collections.abc import Sequence
from html import escape

from metro_fast.robustness.cells import Cell
from metro_fast.robustness.page.tables import quiet
from metro_fast.robustness.page.text import percent
from metro_fast.robustness.page.worst_cases import FlippedItem, most_flipped, worst_example

__all__ = ["examples_of"]


def examples_of(model_name: str, cells: Sequence[Cell], *, count: int) -> str:
    """A block about one model: its worst instruction, and the items with the most answers.

    Args:
        model_name: The name of the model.
        cells: The cells of the model on one task.
        count: Most flipped items to show.
    """
    worst = worst_example(cells)
    best = f"{escape(worst.best_id)} ({percent(worst.best_value)})"
    summary = (
        f"{escape(model_name)}: the worst instruction is "
        f"<strong>{escape(worst.instruction_id)}</strong>, {percent(worst.value)}"
    )
    if worst.value == worst.best_value:
        summary = f"{escape(model_name)}: every instruction gives {percent(worst.value)}"
        example = ""
    elif worst.item is None:
        example = (
            f"<p>No item is answered correctly under the best instruction, {best}, and wrongly "
            "under this one.</p>\n"
        )
    else:
        example = (
            f"<blockquote>{escape(worst.item.input)}</blockquote>\n"
            f'<p>To this input the model answers <span class="wrong">{escape(worst.item.given)}'
            f'</span>; correct is <span class="right">{escape(worst.item.right)}</span>, its '
            f"answer under {best}. {quiet(f'Item {worst.item.id}.')}</p>\n"
        )
    flipped = "".join(map(_flipped, most_flipped(cells, count=count)))
    if flipped:
        flipped = f"<h5>Items whose answer changes most with the wording</h5>\n{flipped}"
    return f"<details>\n<summary>{summary}</summary>\n{example}{flipped}</details>\n"


def _flipped(item: FlippedItem) -> str:
    answers = "".join(
        f'<li><span class="{"right" if answer == item.right else "wrong"}">{escape(answer)}</span> '
        f"{escape(', '.join(ids))}</li>\n"
        for answer, ids in item.answers
    )
    never = "" if any(a == item.right for a, _ in item.answers) else ", which no wording yields"
    note = (
        f"Item {item.item_id}; correct is \N{LEFT DOUBLE QUOTATION MARK}{item.right}"
        f"\N{RIGHT DOUBLE QUOTATION MARK}{never}; {percent(item.flip_rate, 0)} of the "
        "instructions do not yield its most frequent answer."
    )
    return (
        f"<article>\n<blockquote>{escape(item.item_input)}</blockquote>\n"
        f'<ul class="answers">\n{answers}</ul>\n<p class="quiet">{escape(note)}</p>\n</article>\n'
    )
