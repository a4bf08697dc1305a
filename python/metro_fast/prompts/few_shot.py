"""Prompts with worked examples before the question: few-shot prompting."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.prompts.instruction import Instruction
from metro_fast.prompts.item import Item
from metro_fast.prompts.prompt import Prompt, RejectError
from metro_fast.prompts.task import Task

__all__ = ["FewShot"]


@dataclass(frozen=True)
class FewShot:
    """Words items after `k` examples, which are the same for all items and fixed by a seed.

    The examples are those items of a task whose hash with the seed is smallest: adding items to the
    task replaces few of them. An item is never its own example, and items that the instruction
    cannot word are passed over.

    Args:
        examples: The task that the examples are from; its split says which part of the data it is.
        k: Number of examples.
        seed: Seed of the draw, 0 <= seed < 2**63.
        answer_separator: What is between the input of an example and its answer.
        example_separator: What is after each example.

    Raises:
        MetroFastError: If k or the seed is out of range, or the task has too few items.

    Example:
        >>> items = [Item(str(n), {"n": n}, ("odd", "even"), (n + 1) % 2) for n in range(5)]
        >>> shots = FewShot(Task("parity", "cls", items[1:], split="train"), k=1, seed=0)
        >>> print(shots.render(Instruction("ask", "cls", "{{ n }}:"), items[0]).input)
        1: odd
        <BLANKLINE>
        0:
    """

    examples: Task
    k: int
    seed: int
    answer_separator: str = " "
    example_separator: str = "\n\n"

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise MetroFastError(f"seed is {self.seed}; give 0 <= seed < 2**63")
        if not 1 <= self.k <= len(self.examples):
            raise MetroFastError(
                f"k is {self.k}, but task {quoted(self.examples.name)}, split "
                f"{quoted(self.examples.split)}, "
                f"has {len(self.examples)} items; give 1 <= k <= {len(self.examples)}"
            )

    def order(self) -> Sequence[Item]:
        """The items in the order in which they are drawn."""
        return self.examples.drawn_order(self.seed)

    def render(self, instruction: Instruction, item: Item) -> Prompt:
        """Word an item after the examples, in the words of the same instruction.

        Args:
            instruction: The wording.
            item: The item.

        Returns:
            The prompt, with the choices and the answer of the item.

        Raises:
            MissingExtraError: If jinja2 is not installed.
            MetroFastError: If the instruction cannot word as many examples.
            RejectError: If it cannot word the item.
        """
        prompt = instruction.render(item)
        shown: list[str] = []
        # Without the item itself, whichever task it is from: ids are unique in a task, and the
        # fields and choices are the question.
        for example in self.order():
            if len(shown) == self.k:
                break
            if (example.fields, example.choices) == (item.fields, item.choices):
                continue
            try:
                worked = instruction.render(example)
            except RejectError:
                continue
            shown.append(f"{worked.input}{self.answer_separator}{worked.target}")
        if len(shown) < self.k:
            raise MetroFastError(
                f"instruction {quoted(instruction.id)} can word only {len(shown)} examples of task "
                f"{quoted(self.examples.name)}, but k is {self.k}; lower k or give more items"
            )
        return replace(prompt, input=self.example_separator.join([*shown, prompt.input]))
