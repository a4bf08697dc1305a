"""Tasks of every metric, written answers to them, and cells with chosen answers."""

import random
from collections.abc import Sequence

from metro_fast.prompts import Instruction, Item, Task, render_items
from metro_fast.robustness import Cell, CellRecord
from metro_fast.robustness.worded import prompts_hash
from metro_fast.scoring import PROTOCOLS, Outcome, match_label

ANIMALS = ("the cat", "a red dog", "bird house")
LABELS = {
    "accuracy": ANIMALS,
    "semeval_macro_f1": ("City(e1,e2)", "City(e2,e1)", "Border(e1,e2)", "Other"),
    "tacred_micro_f1": ("capital", "city", "no_relation"),
    "exact_match": ANIMALS,
    "normalized_match": ANIMALS,
    "token_f1": ANIMALS,
}
FREE = ("exact_match", "normalized_match", "token_f1")
WORDINGS = (
    Instruction("ask", "cases", "which animal : {{ text }} ?", seen_by=("t5",)),
    Instruction("options", "cases", "{{ options }} : {{ text }} ?"),
    Instruction("read", "cases", "read {{ text }} and choose"),
)


def make_task(metric: str, count: int = 18, *, free: bool = False) -> Task:
    labels, draw = LABELS[metric], random.Random(metric)
    items = []
    for number in range(count):
        fields = {"text": f"the {draw.choice(('cat', 'dog'))} eats fish {'red ' * (number % 5)}"}
        place = draw.randrange(len(labels))
        if free:
            items.append(Item(f"i{number}", fields, target=labels[place]))
        else:
            items.append(Item(f"i{number}", fields, labels, place))
    return Task("cases", "cases", tuple(items), metric=metric)


def written(prompts: Sequence, seed: str) -> list[Outcome]:
    """Answers as a model could write them: right, nearly right, wrong, unreadable, or none."""
    outcomes = []
    for number, prompt in enumerate(prompts):
        draw = random.Random(f"{seed} {number} {prompt.input}")
        right = prompt.target
        texts = [right, f" {right}\n", f"{right}!", right.upper(), right.split()[-1], "fish", ""]
        text = draw.choice([*texts, *prompt.choices])
        found = match_label(text, prompt.choices) if prompt.choices else -1
        outcomes.append(Outcome(found, None, text))
    return outcomes


def make_cell(
    task: Task,
    instruction: Instruction,
    outcomes: Sequence[Outcome],
    *,
    model: str = "tiny",
    preset: str = "metro_t0",
) -> Cell:
    rendered = render_items(instruction, task)
    record = CellRecord(
        model, "t5", f"{model:0<64}", "a" * 64, task.name, task.task_type, task.split, task.metric,
        task.sha256, instruction, prompts_hash(rendered), preset, PROTOCOLS[preset].identity,
    )  # fmt: skip
    return Cell(record, task, rendered, tuple(outcomes))


def random_scores(count: int, seed: object, *, wide: bool = False) -> Outcome:
    """Scores with the bits of a float32, or of a float64."""
    draw = random.Random(str(seed))
    scores = [draw.uniform(-40, 0) for _ in range(count)]
    if not wide:
        import numpy as np

        scores = np.array(scores, np.float32).tolist()
    return Outcome(scores.index(max(scores)), tuple(scores))
