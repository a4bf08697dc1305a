"""Items whose answer differs between two sides: lost, gained, and wrong in another way."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from metro_fast.robustness.cells import Cell
from metro_fast.robustness.common_items import common_ids
from metro_fast.robustness.page.view import ModelView
from metro_fast.robustness.report import Report

__all__ = ["KINDS", "Flip", "Flips", "flips_of"]

KINDS = ("lost", "gained", "wrong in another way")
_EXAMPLES = 2


class Flip(NamedTuple):
    """An item of a kind: its task, its text, the answers, and the wordings under which it flips."""

    task: str
    item_id: str
    text: str
    right: str
    before: str
    after: str
    wordings: tuple[str, ...]


class Flips(NamedTuple):
    """The answers of a model that differ from those of its reference.

    `counts` has the number of (item, wording) pairs of each kind, of `total`, and `examples` the
    items that flip under the most wordings.
    """

    name: str
    reference: str
    counts: tuple[int, int, int]
    total: int
    examples: tuple[tuple[Flip, ...], ...]


class _Found(NamedTuple):
    """Where items of a task flip, by kind, `[P, N]` each, and the cells of both sides."""

    task: str
    where: tuple[np.ndarray, np.ndarray, np.ndarray]
    pairs: Sequence[tuple[Cell, Cell]]


def flips_of(view: ModelView, reports: dict[str, Report]) -> Flips | None:
    """The flips of a model against its reference, or else against its own median wording.

    Args:
        view: The model.
        reports: All reports by name of model.

    Returns:
        The flips; None if there is nothing to compare, as with one wording and no reference.
    """
    found = []
    for summary in view.summaries:
        reference = view.references.get(summary.task)
        cells = view.report.task_cells(summary.task)
        if reference is not None:
            others = reports[reference.comparison.first].task_cells(summary.task)
            by_id = {cell.record.instruction.id: cell for cell in others}
            pairs = [(by_id[cell.record.instruction.id], cell) for cell in cells]
        else:
            (middle,) = (
                c for c in cells if c.record.instruction.id == summary.median.instruction_id
            )
            pairs = [(middle, cell) for cell in cells if cell is not middle]
        if pairs:
            found.append(_compare(summary.task, pairs))
    if not found:
        return None
    firsts = dict.fromkeys(each.comparison.first for each in view.references.values())
    counts = [sum(int(each.where[kind].sum()) for each in found) for kind in range(3)]
    return Flips(
        view.name,
        " and ".join(firsts) or "its median wording",
        (counts[0], counts[1], counts[2]),
        sum(each.where[0].size for each in found),
        tuple(_examples(found, kind) for kind in range(3)),
    )


def _compare(task: str, pairs: Sequence[tuple[Cell, Cell]]) -> _Found:
    ids = common_ids(cell for pair in pairs for cell in pair)
    pairs = [(a.take(ids), b.take(ids)) for a, b in pairs]
    before, after = (np.array([p[side].correct for p in pairs], dtype=bool) for side in (0, 1))
    given, later = (
        np.array([[x.given for x in p[side].answers] for p in pairs], dtype=object)
        for side in (0, 1)
    )
    return _Found(
        task,
        (before & ~after, ~before & after, ~before & ~after & (given != later)),
        pairs,
    )


def _examples(found: Sequence[_Found], kind: int) -> tuple[Flip, ...]:
    """The items that flip in this way under the most wordings, of all tasks."""
    ranked = []
    for place, each in enumerate(found):
        times = each.where[kind].sum(0)
        best = np.argsort(-times, kind="stable")[:_EXAMPLES]
        ranked += [(-int(times[i]), place, int(i)) for i in best if times[i]]
    chosen = []
    for _, place, index in sorted(ranked)[:_EXAMPLES]:
        each = found[place]
        flipped = np.flatnonzero(each.where[kind][:, index]).tolist()
        first, second = each.pairs[flipped[0]]
        item = second.items[index]
        chosen.append(
            Flip(
                each.task,
                item.id,
                second.prompts[index].input,
                item.answer_text,
                first.answers[index].given,
                second.answers[index].given,
                tuple(each.pairs[p][1].record.instruction.id for p in flipped),
            )
        )
    return tuple(chosen)
