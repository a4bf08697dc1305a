"""The item of a task: the facts that an instruction puts into words, the choices, the answer."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from metro_fast.errors import MetroFastError

__all__ = ["Item", "check_text", "strings"]

# Templates see the fields, `choices` and `options` in one namespace.
_RESERVED_FIELDS = frozenset({"choices", "options"})


@dataclass(frozen=True, slots=True)
class Item:
    """One question with its possible answers.

    Args:
        id: Name of the item, unique in its task.
        fields: The texts that templates may use, by name; `choices` and `options` are reserved.
        choices: At least two different answers; none of them may be blank.
        answer: Index of the right choice.
        group: Passage or subject that several items share, if any: intervals count groups, not
            items, as independent (Miller, arXiv 2411.00640).

    Raises:
        TypeError: If a text is not a string or `answer` not an integer.
        MetroFastError: If a value is out of its range; the message names the item.

    Example:
        >>> item = Item("1", {"sentence": "Paris is in France."}, ("capital", "city"), 1)
        >>> item.answer_text
        'city'
        >>> item
        Item('1', choices=('capital', 'city'), answer=1)
    """

    id: str
    fields: Mapping[str, str]
    choices: tuple[str, ...]
    answer: int
    group: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.id, str):
            raise TypeError(f"item id is {self.id!r}; give a string")
        where = f"item {self.id!r}"
        if not self.id:
            raise MetroFastError("item id is empty; give each item of a task its own id")
        check_text(self.id, where)
        if not isinstance(self.fields, Mapping):
            raise TypeError(f"{where}: fields is {self.fields!r}; give a mapping of texts")
        object.__setattr__(self, "fields", dict(self.fields))
        for name, value in self.fields.items():
            if not isinstance(name, str) or not isinstance(value, str):
                raise TypeError(f"{where}: field {name!r} is {value!r}; give a string")
            check_text(f"{name} {value}", f"{where}: field {name!r}")
            if name in _RESERVED_FIELDS:
                raise MetroFastError(
                    f"{where}: the field name {name!r} is reserved for templates; rename the field"
                )
        object.__setattr__(self, "choices", strings(self.choices, f"{where}: choices"))
        if len(self.choices) < 2:
            raise MetroFastError(f"{where} has {len(self.choices)} choices; give at least 2")
        if any(not choice.strip() for choice in self.choices):
            raise MetroFastError(f"{where}: a choice in {self.choices!r} is blank; give it a text")
        if len(set(self.choices)) < len(self.choices):
            raise MetroFastError(
                f"{where}: a choice is given twice in {self.choices!r}; remove one of the two"
            )
        if isinstance(self.answer, bool) or not isinstance(self.answer, int):
            raise TypeError(f"{where}: answer is {self.answer!r}; give the index of a choice")
        if not 0 <= self.answer < len(self.choices):
            raise MetroFastError(
                f"{where}: answer {self.answer} is out of range; {len(self.choices)} choices have "
                f"the indices 0 to {len(self.choices) - 1}"
            )
        if self.group is not None and not isinstance(self.group, str):
            raise TypeError(f"{where}: group is {self.group!r}; give a string or None")

    def __repr__(self) -> str:
        few = len(self.choices) <= 4 and sum(map(len, self.choices)) <= 60
        choices = f"choices={self.choices!r}" if few else f"{len(self.choices)} choices"
        return f"Item({self.id!r}, {choices}, answer={self.answer})"

    @property
    def answer_text(self) -> str:
        """The right choice."""
        return self.choices[self.answer]

    def to_record(self) -> dict[str, Any]:
        """The item as plain JSON values."""
        return {
            "id": self.id,
            "fields": dict(self.fields),
            "choices": list(self.choices),
            "answer": self.answer,
            "group": self.group,
        }


def check_text(value: str, what: str) -> None:
    """Refuse half of a surrogate pair, which JSON can spell but no file or tokenizer accepts."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise MetroFastError(f"{what} is not valid Unicode text: {error}") from error


def strings(value: object, what: str) -> tuple[str, ...]:
    """Turn a list of strings into a tuple; a bare string, which is also iterable, is refused."""
    if not isinstance(value, str) and isinstance(value, Iterable):
        elements = tuple(value)
        if all(isinstance(element, str) for element in elements):
            for element in elements:
                check_text(element, what)
            return elements
    raise TypeError(f"{what} is {value!r}; give a sequence of strings")
