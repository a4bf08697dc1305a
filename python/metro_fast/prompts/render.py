"""Word whole tasks: prompts with counted rejects, and (input, target) texts for finetuning."""

import hashlib
import random
from collections.abc import Iterable
from typing import NamedTuple

from metro_fast.errors import MetroFastError
from metro_fast.prompts.few_shot import FewShot
from metro_fast.prompts.instruction import Instruction
from metro_fast.prompts.instruction_set import InstructionSet
from metro_fast.prompts.item import Item
from metro_fast.prompts.prompt import Prompt, Reject, RejectError
from metro_fast.prompts.task import Task

__all__ = ["Rendered", "render_examples", "render_items"]


class Rendered(NamedTuple):
    """Items in the words of one instruction.

    Attributes:
        items: The items that it can word, in order.
        prompts: Their prompts.
        rejects: The items that it cannot word, each with its reason; `by_reason` counts them.
    """

    items: tuple[Item, ...]
    prompts: tuple[Prompt, ...]
    rejects: tuple[Reject, ...]


def render_items(
    instruction: Instruction,
    items: Iterable[Item],
    *,
    shots: FewShot | None = None,
    strict: bool = False,
) -> Rendered:
    """Word items, and count those that the instruction cannot word.

    Args:
        instruction: The wording.
        items: The items, for instance a task.
        shots: Worked examples before each of them.
        strict: Raise the first reject as an error.

    Returns:
        The worded items, their prompts, and the rejects.

    Raises:
        MissingExtraError: If jinja2 is not installed.
        MetroFastError: If a template is not valid Jinja2.
        RejectError: If `strict` and an item cannot be worded.

    Example:
        >>> instruction = Instruction("ask", "qa", "{{ question }}")
        >>> items = [Item(str(i), {"question": "Why?"}, ("so", "so"[:i]), 0) for i in (1, 2)]
        >>> [(reject.item_id, reject.reason) for reject in render_items(instruction, items).rejects]
        [('2', 'duplicate choices')]
    """
    worded: list[Item] = []
    prompts: list[Prompt] = []
    rejects: list[Reject] = []
    for item in items:
        try:
            prompts.append(shots.render(instruction, item) if shots else instruction.render(item))
            worded.append(item)
        except RejectError as error:
            if strict:
                raise
            rejects.append(error.reject)
    return Rendered(tuple(worded), tuple(prompts), tuple(rejects))


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
        right choice of the reading, or its target.

    Raises:
        MetroFastError: If fewer than `instructions_per_item` instructions are of the task's type,
            the seed is out of range, or a template cannot be rendered.

    Example:
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
        for index in chosen:
            prompt = usable[index].render(item)
            assert prompt.target is not None  # a rendered prompt has one
            examples.append((prompt.input, prompt.target))
    return examples
