"""A study of many models, tasks and instructions with a few planted breaks, from seeds alone."""

from functools import cache
from typing import NamedTuple

import numpy as np

from metro_fast.prompts import Instruction, Item, Task, render_items
from metro_fast.robustness import Cell, CellRecord, Report
from metro_fast.robustness.worded import prompts_hash
from metro_fast.scoring import PROTOCOLS, Outcome

MODELS = ("base", "expert", "expert 50 %", "expert 20 %", "expert 10 %", "expert 5 %")
LABELS = ("yes", "no", "maybe", "unknown")


class Break(NamedTuple):
    """A cell that was made to fail: `model` loses `loss` under one wording of one task."""

    model: str
    task: str
    wording: str
    loss: float


BREAKS = (
    Break("base", "qa-02", "as-a-riddle", 0.36),
    Break("expert 20 %", "re-03", "in-capitals", 0.38),
    Break("expert 5 %", "qa-07", "one-word", 0.34),
)
WORDINGS = (
    "plain", "polite", "teacher", "question-last", "question-first", "options-listed",
    "lettered", "numbered", "short", "long", "quoted", "as-a-riddle", "as-an-email", "in-capitals",
    "one-word", "role-expert", "role-child", "step-wise", "table", "bare",
)  # fmt: skip


def synthetic_study(
    *,
    models: int = 6,
    tasks: int = 20,
    wordings: int = 20,
    items: int = 100,
    breaks: tuple[Break, ...] = BREAKS,
    controls: int = 2,
) -> list[Report]:
    """Reports of models that differ by little but in the planted breaks.

    Half of the tasks are relations and half are questions; the first half of the wordings is seen,
    and 4 points better. Wordings have effects of their own of about a point, items have
    difficulties that all models share. The first `controls` tasks have a negated instruction.
    """
    lost = {(b.model, b.task, b.wording): b.loss for b in breaks}
    worded = [_worded_task(t, wordings, items, t < controls) for t in range(tasks)]
    reports = []
    for m, model in enumerate(MODELS[:models]):
        cells = []
        for t, (task, rows) in enumerate(worded):
            difficulty = np.random.default_rng([1, t]).normal(0, 0.12, items)
            for p, (instruction, rendered, hashed) in enumerate(rows):
                effect = np.random.default_rng([2, t, p]).normal(0, 0.01)
                level = 0.72 + (0.02 if 2 * p < wordings else -0.02) + effect
                level += 0.0 if m == 0 else 0.04 - 0.01 * (m - 1)
                level -= lost.get((model, task.name, instruction.id), 0.0)
                if instruction.is_control:
                    level = 0.3
                # Draws by item and wording that models share: they agree where they are alike.
                draw = np.random.default_rng([3, t, p]).random(items)
                own = np.random.default_rng([4, t, p, m]).random(items)
                right = np.where(own < 0.05, own / 0.05, draw) < np.clip(level + difficulty, 0, 1)
                record = CellRecord(
                    model, "t5", f"{m + 10:x}" * 64, "a" * 64, task.name, task.task_type,
                    task.split, task.metric, task.sha256, instruction, hashed, "metro_t0",
                    PROTOCOLS["metro_t0"].identity,
                )  # fmt: skip
                outcomes = tuple(
                    _outcome(item.answer, bool(hit), int(4 * draw[i] * 7) % 4)
                    for i, (item, hit) in enumerate(zip(rendered.items, right, strict=True))
                )
                cells.append(Cell(record, task, rendered, outcomes))
        reports.append(Report(cells, versions={"torch": "2.15.0"}, date=1_795_000_000.0))
    return reports


def _outcome(answer: int, right: bool, other: int) -> Outcome:
    chosen = answer if right else (answer + 1 + other % 3) % len(LABELS)
    return _outcomes()[chosen]


@cache
def _outcomes() -> tuple[Outcome, ...]:
    rows = [tuple(-1.0 if i == k else -2.0 - i / 4 for i in range(4)) for k in range(4)]
    return tuple(Outcome(k, row) for k, row in enumerate(rows))


def _worded_task(number: int, wordings: int, count: int, control: bool) -> tuple:
    """A task, and its wordings with what they make of its items."""
    kind = ("re", "qa")[number % 2]
    items = [
        Item(f"{i}", {"text": f"Sentence {i} of text {number}, which is about rivers."}, LABELS,
             int(np.random.default_rng([5, number, i]).integers(4)))
        for i in range(count)
    ]  # fmt: skip
    task = Task(f"{kind}-{number // 2 + 1:02}", kind, tuple(items))
    rows = []
    for p, name in enumerate(WORDINGS[:wordings]):
        seen = ("t5",) if 2 * p < wordings else ()
        text = f"{name}: {{{{ text }}}} Is that so? {{{{ options }}}}"
        rows.append(Instruction(name, kind, text, seen_by=seen))
    if control:
        rows.append(Instruction("opposite", kind, "Answer wrongly: {{ text }}", kind="negated"))
    rendered = [render_items(each, task) for each in rows]
    return task, [(i, r, prompts_hash(r)) for i, r in zip(rows, rendered, strict=True)]
