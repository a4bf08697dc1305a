"""Turn a task and its instructions into (input, target) texts for finetuning."""

import hashlib
import random
from collections.abc import Iterable

from metro_fast.errors import MetroFastError
from metro_fast.prompts.instruction import Instruction
from metro_fast.prompts.instruction_set import InstructionSet
from metro_fast.prompts.task import Task

__all__ = ["render_examples"]


def render_examples(
    task: Task,
    instructions: Iterable[Instruction],
    *,
    seed: int,
    instructions_per_item: int = 1,
) -> list[tuple[str, str]]:
    """Render a task for finetuning: each item in the words of instructions drawn for it.

    The draw is a pure function of (seed, item id) and the instructions: adding, dropping or
    reordering items changes nothing for the others.

    Args:
        task: The items.
        instructions: The draw is from those of the task's type; others are left out.
        seed: Seed of the draw, 0 <= seed < 2**63.
        instructions_per_item: How many different instructions each item is rendered with.

    Returns:
        (input, target) texts, items in order, `instructions_per_item` of each; the target is the
        right choice.

    Raises:
        MetroFastError: If fewer than `instructions_per_item` instructions are of the task's type,
            the seed is out of range, or a template cannot be rendered.

    Example:
        >>> from metro_fast.prompts.item import Item
        >>> task = Task("praise", "cls", (Item("1", {"word": "good"}, ("yes", "no"), 0),))
        >>> render_examples(task, [Instruction("a", "cls", "Is {{ word }} praise?")], seed=0)
        [('Is good praise?', 'yes')]
    """
    if not 0 <= seed < 2**63:
        raise MetroFastError(f"seed is {seed}; give 0 <= seed < 2**63")
    if instructions_per_item < 1:
        raise MetroFastError(f"instructions_per_item is {instructions_per_item}; give at least 1")
    usable = InstructionSet(instructions).for_task(task.task_type)
    if len(usable) < instructions_per_item:
        raise MetroFastError(
            f"task {task.name!r} has {len(usable)} instructions of type {task.task_type!r}, but "
            f"{instructions_per_item} are needed; add some, or lower instructions_per_item"
        )
    examples: list[tuple[str, str]] = []
    for item in task:
        digest = hashlib.sha256(f"{seed}\0{item.id}".encode()).digest()
        # An integer seed: a Mersenne Twister's stream from it is the same on every platform.
        draw = random.Random(int.from_bytes(digest[:8]))
        chosen = draw.sample(range(len(usable)), instructions_per_item)
        examples.extend((usable[index].render(item), item.answer_text) for index in chosen)
    return examples
