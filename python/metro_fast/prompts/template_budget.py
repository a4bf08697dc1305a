"""The budget of filling one template, and the text of a value; jinja2 is imported here.

Every value that a template makes is weighed whole before another operation takes it. So no value
is larger than the budget, and the cost of comparing, hashing or printing one is bounded too.
"""

from __future__ import annotations

import contextvars
import hashlib
import random
from typing import Any

import jinja2
from jinja2.exceptions import SecurityError

from metro_fast.prompts.prompt import TemplateFailure

__all__ = ["CHARACTERS", "STEPS", "Budget", "rendering", "size", "spend", "text_of", "weigh"]

# Each node of Jinja2 that a loop passes is a step, as is each element of a list that is made. It is
# enough to print each of 30,000 words, and takes 0.1 s.
STEPS = 100_000
# Text is held a few times at 1 to 4 bytes a character: at most 80 MB.
CHARACTERS = 4_000_000
# Integers of more bits have more than the 4,300 digits that Python prints.
BITS = 10_000


class Budget:
    """The steps and characters that one rendering has left, and its draws.

    Args:
        seed: Equal texts draw equally.
    """

    __slots__ = ("_draw", "characters", "seed", "steps")

    def __init__(self, seed: str) -> None:
        self.steps = STEPS
        self.characters = CHARACTERS
        self.seed = seed
        self._draw: random.Random | None = None

    @property
    def draw(self) -> random.Random:
        """The generator; most templates need none, and it takes 10 µs to make."""
        if self._draw is None:
            digest = hashlib.sha256(self.seed.encode()).digest()
            self._draw = random.Random(int.from_bytes(digest[:8]))
        return self._draw


rendering: contextvars.ContextVar[Budget] = contextvars.ContextVar("rendering")


def spend(steps: int, characters: int) -> None:
    """Take from the budget; a negative price costs nothing.

    Raises:
        TemplateFailure: If that is more than is left.
    """
    budget = rendering.get()
    if steps > 0:
        budget.steps -= steps
        if budget.steps < 0:
            raise _over(f"takes more than {STEPS:,} steps", "its loops")
    if characters > 0:
        budget.characters -= characters
        if budget.characters < 0:
            raise _over(f"handles more than {CHARACTERS:,} characters", "its texts")


def size(value: Any) -> tuple[int, int]:
    """The size of a value with all that it holds: elements, and characters of texts and numbers.

    Raises:
        TemplateFailure: If that is more elements or characters than are left.
        SecurityError: If it is or holds something other than plain values, as a function.
    """
    steps, characters = 0, 0
    budget = rendering.get()
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            characters += len(one)
        elif isinstance(one, list | tuple):
            steps += len(one)
            if steps <= budget.steps:
                waiting += one
        elif isinstance(one, dict):
            steps += 2 * len(one)
            if steps <= budget.steps:
                waiting += one.keys()
                waiting += one.values()
        elif isinstance(one, int):
            characters += 1 + one.bit_length() // 3
        elif isinstance(one, float) or one is None:
            characters += 24
        elif not isinstance(one, jinja2.Undefined):
            raise SecurityError(
                f"a value of type {type(one).__name__} can neither be printed nor handed on"
            )
        if steps > budget.steps or characters > budget.characters:
            spend(steps, characters)
    return steps, characters


def weigh(value: Any) -> None:
    """Spend the size of a value."""
    if isinstance(value, str):
        spend(0, len(value))
    else:
        spend(*size(value))


def text_of(value: Any) -> str:
    """A value as a template prints it; the text is weighed.

    Raises:
        UndefinedError: If it is undefined, or holds something undefined.
        SecurityError: If it is or holds something other than plain values.
    """
    if isinstance(value, str):
        text = str(value)
    else:
        weigh(value)
        _check_defined(value)
        text = str(value)
    spend(0, len(text))
    return text


def _check_defined(value: Any) -> None:
    """Python prints something undefined inside of a list as the word Undefined."""
    if isinstance(value, jinja2.Undefined):
        str(value)  # raises
    elif isinstance(value, list | tuple | dict):
        for one in value:
            _check_defined(one)
        if isinstance(value, dict):
            _check_defined(list(value.values()))


def _over(what: str, cause: str) -> TemplateFailure:
    return TemplateFailure(
        "over a limit", f"filling the template {what}; shorten {cause} or the item's fields"
    )
