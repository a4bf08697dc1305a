"""The matrices of all models as one picture and one table, to be saved."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from metro_fast.robustness.page.pictures import RED, Picture
from metro_fast.robustness.page.view import ModelView

__all__ = ["matrix_picture"]

_COLUMNS = 3


def matrix_picture(views: Sequence[ModelView]) -> Picture:
    """The values of all cells, with the marks of the broken ones.

    Args:
        views: The models.

    Returns:
        A picture whose numbers have a row for each cell.
    """
    rows: list[tuple[str | float, ...]] = []
    for view in views:
        marks = {(cell.task, cell.wording): cell.mark for cell in view.broken}
        rows += [
            (
                view.name, s.task, row.instruction_id, "seen" if row.seen else "unseen",
                round(row.value, 6), round(row.interval.low, 6), round(row.interval.high, 6),
                row.total, marks.get((s.task, row.instruction_id), ""), s.model_hash[:8],
                s.items_hash[:8], s.preset,
            )
            for s in view.summaries
            for row in s.instructions
        ]  # fmt: skip
    lines = math.ceil(len(views) / _COLUMNS)
    tasks = max(len(view.summaries) for view in views)
    return Picture(
        "matrices",
        "Values of all models by task and wording",
        "",
        (
            "model", "task", "wording", "seen", "value", "low", "high", "n", "broken", "model hash",
            "items hash", "preset",
        ),
        rows,
        (4.0 * min(len(views), _COLUMNS), lines * (0.9 + 0.16 * tasks)),
        lambda figure: _draw(figure, views, lines),
    )  # fmt: skip


def _draw(figure: Any, views: Sequence[ModelView], lines: int) -> Mapping[str, str]:
    axes = figure.subplots(lines, min(len(views), _COLUMNS), squeeze=False).flatten()
    for axis in axes[len(views) :]:
        axis.set_axis_off()
    for view, axis in zip(views, axes, strict=False):
        broken = {(cell.task, cell.wording): cell.mark for cell in view.broken}
        most = max(len(s.instructions) for s in view.summaries)
        values = np.full((len(view.summaries), most), np.nan)
        for y, summary in enumerate(view.summaries):
            for x, row in enumerate(summary.instructions):
                values[y, x] = row.value
                mark = broken.get((summary.task, row.instruction_id))
                if mark is not None:
                    square = {"facecolor": RED, "edgecolor": RED, "pad": 1}
                    # matplotlib's font has no heavier cross, and its triangle is the page's.
                    axis.text(
                        x, y, mark.replace("\N{MULTIPLICATION X}", "\N{MULTIPLICATION SIGN}"),
                        ha="center", va="center", color="white", fontsize=6, bbox=square,
                    )  # fmt: skip
        axis.imshow(values, vmin=0, vmax=1, cmap="Blues", aspect="auto")
        axis.set_yticks(range(len(view.summaries)), [s.task[:16] for s in view.summaries])
        axis.set_xticks(range(most), [str(n + 1) for n in range(most)])
        axis.tick_params(labelsize=6, length=0, top=True, labeltop=True, labelbottom=False)
        axis.set_title(view.name[:40], fontsize=9, loc="left")
    return {}
