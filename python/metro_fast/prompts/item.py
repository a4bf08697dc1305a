"""The item of a task: the facts that an instruction puts into words, the choices, the answer."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError

__all__ = ["Item", "check_text", "strings"]


@dataclass(frozen=True, slots=True)
class Item:
    """One question with its possible answers, as published.

    An item is data: its choices may hold one text twice or a blank one, since a reading by letters
    can still ask it. `Instruction.render` decides whether a wording can.

    Args:
        id: Name of the item, unique in its task.
        fields: JSON values that templates may use, by name.
        choices: At least two answers; or none, for an item that is answered by free text.
        answer: Index of the right choice; or None, if it is `target` and not among the choices.
        group: Passage or subject that several items share, if any: intervals count groups, not
            items, as independent (Miller, arXiv 2411.00640).
        target: The right answer as a text, where no choice is the right one.

    Raises:
        TypeError: If a text is not a string, a field not a JSON value, or `answer` not an integer.
        MetroFastError: If a value is out of its range, or there is neither an answer nor a target;
            the message names the item.

    Example:
        >>> item = Item("1", {"sentence": "Paris is in France."}, ("capital", "city"), 1)
        >>> item.answer_text
        'city'
        >>> item
        Item('1', choices=('capital', 'city'), answer=1)
        >>> Item("2", {"sum": [1, 2]}, target="3")
        Item('2', target='3')
    """

    id: str
    fields: Mapping[str, Any]
    choices: tuple[str, ...] = ()
    answer: int | None = None
    group: str | None = None
    target: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.id, str):
            raise TypeError(f"item id is {quoted(self.id)}; give a string")
        where = f"item {quoted(self.id)}"
        if not self.id:
            raise MetroFastError("item id is empty; give each item of a task its own id")
        check_text(self.id, where)
        if not isinstance(self.fields, Mapping):
            raise TypeError(
                f"{where}: fields is {quoted(self.fields)}; give a mapping of JSON values"
            )
        fields = {
            name: _json_value(v, f"{where}: field {quoted(name)}")
            for name, v in self.fields.items()
        }
        for name in fields:
            if not isinstance(name, str):
                raise TypeError(
                    f"{where}: the field name {quoted(name)} is not a string; give a string"
                )
            check_text(name, f"{where}: field {quoted(name)}")
        object.__setattr__(self, "fields", fields)
        object.__setattr__(self, "choices", strings(self.choices, f"{where}: choices"))
        for label in ("group", "target"):
            value = getattr(self, label)
            if value is None:
                continue
            if not isinstance(value, str):
                raise TypeError(f"{where}: {label} is {quoted(value)}; give a string or None")
            check_text(value, f"{where}: {label}")
        self._check_answer(where)

    def _check_answer(self, where: str) -> None:
        if len(self.choices) == 1 or (not self.choices and self.target is None):
            raise MetroFastError(
                f"{where} has {len(self.choices)} choices; give at least 2, or none and a target"
            )
        if self.answer is None and self.target is not None:
            return
        if isinstance(self.answer, bool) or not isinstance(self.answer, int):
            raise TypeError(f"{where}: answer is {quoted(self.answer)}; give the index of a choice")
        if self.target is not None:
            raise MetroFastError(
                f"{where} has the answer {self.answer} and the target {quoted(self.target)}; give "
                "one of the two"
            )
        if not 0 <= self.answer < len(self.choices):
            raise MetroFastError(
                f"{where}: answer {self.answer} is out of range; {len(self.choices)} choices have "
                f"the indices 0 to {len(self.choices) - 1}"
            )

    def __repr__(self) -> str:
        if not self.choices:
            return f"Item({self.id!r}, target={self.target!r})"
        few = len(self.choices) <= 4 and sum(map(len, self.choices)) <= 60
        choices = f"choices={self.choices!r}" if few else f"{len(self.choices)} choices"
        return f"Item({self.id!r}, {choices}, answer={self.answer})"

    @property
    def answer_text(self) -> str:
        """The right choice, or the target."""
        if self.answer is not None:
            return self.choices[self.answer]
        assert self.target is not None  # __post_init__ asks for one of the two
        return self.target

    def to_record(self) -> dict[str, Any]:
        """The item as plain JSON values; without `target`, if it is None."""
        record = {
            "id": self.id,
            "fields": dict(self.fields),
            "choices": list(self.choices),
            "answer": self.answer,
            "group": self.group,
        }
        return record if self.target is None else {**record, "target": self.target}


def _json_value(value: object, what: str) -> Any:
    """A copy of a JSON value; tuples become lists, and everything else is refused."""
    if isinstance(value, str):
        check_text(value, what)
        return value
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise MetroFastError(
                f"{what} is {quoted(value)}, which JSON cannot hold; give a number"
            )
        return value
    if isinstance(value, list | tuple):
        return [_json_value(element, what) for element in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {
            key: _json_value(element, f"{what}[{quoted(key)}]") for key, element in value.items()
        }
    raise TypeError(
        f"{what} is {quoted(value)}; give a JSON value: a text, number, truth value, None, list or "
        "object"
    )


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
    raise TypeError(f"{what} is {quoted(value)}; give a sequence of strings")
