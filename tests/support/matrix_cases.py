"""Reports of models whose right answers are given as a matrix of wordings by items."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from cell_cases import make_cell
from metro_fast.prompts import Instruction, Item, Task
from metro_fast.robustness import Cell, Report
from metro_fast.scoring import Outcome

CHOICES = ("yes", "no")


def matrix_cells(
    right: ArrayLike,
    *,
    model: str = "base",
    task: str = "cases",
    groups: Sequence[str] | None = None,
    kinds: Sequence[str] | None = None,
    seen: Sequence[bool] | None = None,
    preset: str = "metro_t0",
) -> list[Cell]:
    """One cell for each row, under the wordings w0, w1, ...; the kinds are wordings by default."""
    rows = np.asarray(right, bool)
    items = tuple(
        Item(str(i), {"text": f"case {i}"}, CHOICES, 0, None if groups is None else groups[i])
        for i in range(rows.shape[1])
    )
    whole = Task(task, task, items)
    cells = []
    for place, row in enumerate(rows):
        instruction = Instruction(
            f"w{place}",
            task,
            f"{place}: {{{{ text }}}}?",
            seen_by=("t5",) if seen is not None and seen[place] else (),
            kind="wording" if kinds is None else kinds[place],
        )
        scores = [(-1.0, -2.0) if answer else (-2.5, -1.5) for answer in row.tolist()]
        # Scores that depend on the model, so that no two models have the same ones.
        shift = 0.01 * (1 + len(model))
        outcomes = [Outcome(int(a < b), (a - shift, b - shift)) for a, b in scores]
        cells.append(make_cell(whole, instruction, outcomes, model=model, preset=preset))
    return cells


def matrix_report(right: ArrayLike, **keywords) -> Report:
    return Report(matrix_cells(right, **keywords))
