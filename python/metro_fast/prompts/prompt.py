"""Prompts: an item in the words of an instruction, or the reason why it cannot be."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from metro_fast.errors import MetroFastError

__all__ = ["Prompt", "Reject", "RejectError", "TemplateFailure", "TemplateRefusal", "by_reason"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """One item in the words of one instruction.

    Args:
        input: The text for the model.
        choices: At least two different texts; none, where the answer is generated freely.
        answer: Index of the right choice, or None without choices.
        target: The right answer as a text.
        texts: Where the choices are the letters of options, the text of each option, by which a
            written answer may name it too; otherwise none.

    Example:
        >>> Prompt("Is 7 prime?", ("no", "yes"), 1, "yes").choices
        ('no', 'yes')
    """

    input: str
    choices: tuple[str, ...]
    answer: int | None
    target: str | None = None
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reject:
    """Something that was not taken, and why.

    Args:
        item_id: Name of the item, or of the template or line of a file.
        reason: The reason, in words that are the same for all of its kind, so that they are
            counted together.
        detail: What exactly is wrong with this one.

    Example:
        >>> Reject("17", "duplicate choices", "'3/24' is given twice").reason
        'duplicate choices'
    """

    item_id: str
    reason: str
    detail: str = ""


class RejectError(MetroFastError):
    """An instruction cannot word an item; `reject` has the item, the reason and the detail."""

    def __init__(self, message: str, reject: Reject) -> None:
        super().__init__(message)
        self.reject = reject

    def __reduce__(self) -> tuple[type["RejectError"], tuple[str, Reject]]:
        return type(self), (str(self), self.reject)


class TemplateFailure(Exception):
    """A template could not be filled: the reason to count it under, and the detail."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class TemplateRefusal(Exception):
    """A template is valid Jinja2, but larger than an instruction may be or not allowed in one."""

    def __init__(self, line: int | None, message: str) -> None:
        super().__init__(f"line {line} {message}" if line else f"the template {message}")


def by_reason(rejects: Iterable[Reject]) -> dict[str, int]:
    """Count rejects by their reason, the most frequent reason first.

    Args:
        rejects: The rejects.

    Returns:
        Number of rejects of each reason.

    Example:
        >>> by_reason([Reject("1", "blank input"), Reject("2", "blank input")])
        {'blank input': 2}
    """
    return dict(Counter(reject.reason for reject in rejects).most_common())
