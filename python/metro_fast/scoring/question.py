"""The prompts that an engine takes: anything with an input and its choices."""

from collections.abc import Sequence
from typing import Protocol as Shape

from metro_fast.scoring.protocol import Protocol

__all__ = ["Question", "texts_behind"]


class Question(Shape):
    """Anything with an input and its choices."""

    @property
    def input(self) -> str:
        """The text that the model reads."""

    @property
    def choices(self) -> Sequence[str] | None:
        """The choices; None or empty if the answer is free."""


def texts_behind(
    prompts: Sequence[Question], choices: list[list[str]], protocol: Protocol
) -> list[Sequence[str]]:
    """The options that the letters of each prompt are for; none where choices are not letters."""
    # A question need not have them: only an input and choices are asked for.
    own: list[Sequence[str]] = [getattr(prompt, "texts", None) or () for prompt in prompts]
    if protocol.letters:
        return [texts or row for texts, row in zip(own, choices, strict=True)]
    return own
