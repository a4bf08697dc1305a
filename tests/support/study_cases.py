"""A study with planted answers: a base, an expert, a compressed one with a break, a large base."""

import numpy as np

from matrix_cases import matrix_cells
from metro_fast.robustness import ModelCard, Report, Study, SwappedIn

TASKS = ("relations", "questions")
WORDINGS, ITEMS = 8, 300
BROKEN = "questions", "w2"
"""The task and the wording under which the compressed expert loses 40 points."""

BASE = ModelCard("base", "t5", "base", 1_000, ("relations",))
FULL = ModelCard("full", "t5", "expert", 1_100, TASKS, "base", SwappedIn("lora", 2_000))
SMALL = ModelCard(
    "small", "t5", "compressed", 1_100, TASKS, "base", SwappedIn("lora-20", 200, 0.2, "full")
)
LARGE = ModelCard("large", "t5", "base", 5_000)
SKILLS = {"base": 0.6, "full": 0.8, "small": 0.8, "large": 0.9}


def answers(name: str, task: str) -> np.ndarray:
    """`[wordings, items]`: what a model gets right, with items of the same difficulty for all."""
    draw = np.random.default_rng([TASKS.index(task), 7])
    difficulty = draw.random(ITEMS)
    noise = np.random.default_rng([sorted(SKILLS).index(name), TASKS.index(task)])
    level = np.full((WORDINGS, 1), SKILLS[name])
    if name == "small" and task == BROKEN[0]:
        level[int(BROKEN[1][1:])] -= 0.4
    return difficulty + noise.normal(0, 0.02, (WORDINGS, ITEMS)) < level


def report(name: str, preset: str = "metro_t0", tasks: tuple[str, ...] = TASKS) -> Report:
    seen = [place < 4 for place in range(WORDINGS)]
    cells = [
        cell
        for task in tasks
        for cell in matrix_cells(
            answers(name, task), model=name, task=task, preset=preset, seen=seen
        )
    ]
    return Report(cells)


def study() -> Study:
    return Study([(card, report(card.name)) for card in (BASE, FULL, SMALL, LARGE)])
