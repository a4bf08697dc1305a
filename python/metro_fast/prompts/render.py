"""Word whole tasks: prompts with counted rejects, and (input, target) texts for finetuning."""

import hashlib
import random
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.prompts.few_shot import FewShot
from metro_fast.prompts.instruction import Instruction
from metro_fast.prompts.instruction_set import InstructionSet
from metro_fast.prompts.item import Item
from metro_fast.prompts.prompt import Prompt, Reject, RejectError, by_reason
from metro_fast.prompts.task import Task

__all__ = ["Examples", "Rendered", "render_examples", "render_items"]


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


class Examples(NamedTuple):
    """Texts for finetuning, and what could not be worded.

    Attributes:
        examples: (input, target) texts, items in order.
        rejects: The items that are left out, because too few instructions can word them, each with
            the reason of the first instruction that was drawn and cannot.
        passed_over: The times that an instruction was drawn, cannot word the item, and another one
            took its place, each with its reason.
    """

    examples: list[tuple[str, str]]
    rejects: tuple[Reject, ...]
    passed_over: tuple[Reject, ...]

    def summary(self) -> str:
        """Everything that could not be worded, counted by reason; empty if there is nothing.

        Example:
            >>> Examples([], (Reject("7", "undefined field"),), ()).summary()
            '1 item is left out, because too few instructions can word it (undefined field: 1)'
        """
        parts = []
        if count := len(self.rejects):
            are, them = ("item is", "it") if count == 1 else ("items are", "them")
            parts.append(
                f"{count} {are} left out, because too few instructions can word {them} "
                f"({_counts(self.rejects)})"
            )
        if count := len(self.passed_over):
            times = "once" if count == 1 else f"{count} times"
            parts.append(
                f"{times} an instruction that cannot word its item is replaced by another one "
                f"({_counts(self.passed_over)})"
            )
        return "; ".join(parts)


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
    strict: bool = False,
) -> Examples:
    """Render a task for finetuning: each item in the words of instructions drawn for it.

    The draw is a pure function of (seed, item id) and the instructions: adding, dropping or
    reordering items changes nothing for the others. It passes over instructions that cannot word
    the item, and an item that fewer than `instructions_per_item` can word is left out.

    Args:
        task: The items.
        instructions: The draw is from those of the task's type; others are left out.
        seed: Seed of the draw, 0 <= seed < 2**63.
        instructions_per_item: How many different instructions each item is rendered with.
        strict: Raise the first reject of a drawn instruction as an error.

    Returns:
        The texts, `instructions_per_item` of each item that is not left out, where the target is
        the right choice of the reading, or its target; and what could not be worded.

    Raises:
        MissingExtraError: If jinja2 is not installed.
        MetroFastError: If fewer than `instructions_per_item` instructions are of the task's type,
            the seed is out of range, a template is not valid Jinja2, or no item is left.
        RejectError: If `strict` and a drawn instruction cannot word its item.

    Example:
        >>> task = Task("praise", "cls", (Item("1", {"word": "good"}, ("yes", "no"), 0),))
        >>> words = [Instruction("a", "cls", "Is {{ word }} praise?")]
        >>> render_examples(task, words, seed=0).examples
        [('Is good praise?', 'yes')]
    """
    if not 0 <= seed < 2**63:
        raise MetroFastError(f"seed is {seed}; give 0 <= seed < 2**63")
    if instructions_per_item < 1:
        raise MetroFastError(f"instructions_per_item is {instructions_per_item}; give at least 1")
    usable = InstructionSet(instructions).for_task(task.task_type)
    if len(usable) < instructions_per_item:
        raise MetroFastError(
            f"task {quoted(task.name)} has {len(usable)} instructions of type "
            f"{quoted(task.task_type)}, but "
            f"{instructions_per_item} are needed; add some, or lower instructions_per_item"
        )
    examples: list[tuple[str, str]] = []
    left_out: list[Reject] = []
    passed_over: list[Reject] = []
    first: RejectError | None = None
    for item in task:
        order = _draw(seed, item.id, len(usable), instructions_per_item)
        prompts, failures = _word(item, (usable[i] for i in order), instructions_per_item, strict)
        if len(prompts) < instructions_per_item:
            first = first or failures[0]
            left_out.append(failures[0].reject)
            continue
        passed_over += [failure.reject for failure in failures]
        for prompt in prompts:
            assert prompt.target is not None  # a rendered prompt has one
            examples.append((prompt.input, prompt.target))
    if first is not None and not examples:
        raise MetroFastError(
            f"task {quoted(task.name)}: no item can be worded by {instructions_per_item} of the "
            f"{len(usable)} instructions; the first reason: {first}"
        ) from first
    return Examples(examples, tuple(left_out), tuple(passed_over))


def _word(
    item: Item, instructions: Iterable[Instruction], count: int, strict: bool
) -> tuple[list[Prompt], list[RejectError]]:
    """The item in the words of the first `count` instructions that can word it."""
    prompts: list[Prompt] = []
    failures: list[RejectError] = []
    for instruction in instructions:
        try:
            prompts.append(instruction.render(item))
        except RejectError as error:
            if strict:
                raise
            failures.append(error)
        if len(prompts) == count:
            break
    return prompts, failures


def _draw(seed: int, item_id: str, count: int, first: int) -> Iterator[int]:
    """All of `count` places in an order that seed and id decide; a draw of `first` begins it."""
    digest = hashlib.sha256(f"{seed}\0{item_id}".encode()).digest()
    # An integer seed: a Mersenne Twister's stream from it is the same on every platform.
    draw = random.Random(int.from_bytes(digest[:8]))
    chosen = draw.sample(range(count), first)
    yield from chosen
    # The rest is drawn after them, so that items which every instruction can word keep the
    # wordings that they had before rejects were passed over.
    rest = sorted(set(range(count)) - set(chosen))
    yield from draw.sample(rest, len(rest))


def _counts(rejects: Iterable[Reject]) -> str:
    return ", ".join(f"{reason}: {count}" for reason, count in by_reason(rejects).items())
