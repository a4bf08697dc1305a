"""The result of a reader, and the items on the way to it."""

from collections.abc import Callable
from typing import Any, NamedTuple

from metro_fast._shown import quoted, shown
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.prompts.item import Item
from metro_fast.prompts.prompt import Reject
from metro_fast.prompts.source_report import SourceReport
from metro_fast.prompts.task import Task

__all__ = ["Collector", "Read", "RowError"]


class Read(NamedTuple):
    """A task of others, and what of its source was not taken.

    Attributes:
        task: The items.
        report: Counts of what was taken and, by reason, of what was not.
    """

    task: Task
    report: SourceReport


class RowError(Exception):
    """A row cannot be an item: the reason to count it under, and the detail."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Collector:
    """Items taken one by one; what is wrong with a row is counted and ends nothing.

    Args:
        source: The file, or what else is read.
    """

    def __init__(self, source: object) -> None:
        self._source = str(source)
        self._items: dict[str, Item] = {}
        self._rejects: list[Reject] = []
        self._remarks: list[Reject] = []

    def add(self, name: str, make: Callable[[], Item]) -> None:
        """Take the item that `make` gives, or count why it could not be made.

        Args:
            name: Name of the row, until it is an item.
            make: Makes the item.
        """
        try:
            item = make()
        except RowError as error:
            self._rejects.append(Reject(name, error.reason, error.detail))
            return
        except (TypeError, MetroFastError) as error:
            self._rejects.append(Reject(name, "not an item", str(error)))
            return
        if item.id in self._items:
            self._rejects.append(Reject(item.id, "id given twice", f"{name} has it again"))
            return
        self._items[item.id] = item
        if len(set(item.choices)) < len(item.choices):
            self._remarks.append(Reject(item.id, "duplicate choices", repr(item.choices)))
        if not all(choice.strip() for choice in item.choices):
            self._remarks.append(Reject(item.id, "empty choice", repr(item.choices)))
        if item.choices and item.answer is None:
            self._remarks.append(Reject(item.id, "no answer among the choices", repr(item.target)))

    def finish(self, name: str, task_type: str, split: str, metric: str | None = None) -> Read:
        """The task of all items taken.

        Args:
            name: Name of the task.
            task_type: Kind of task.
            split: Part of the data.
            metric: How answers are counted; by default accuracy, or the exact match of written
                answers if no item has choices.

        Raises:
            FormatError: If no item was taken.
        """
        report = SourceReport(self._source, len(self._items), self._rejects, self._remarks)
        if not self._items:
            first = f"; the first is {shown(self._rejects[0].detail, 500)}" if self._rejects else ""
            raise FormatError(f"{report}: it holds no items{first}")
        items = tuple(self._items.values())
        usual = "accuracy" if any(item.choices for item in items) else "exact_match"
        return Read(Task(name, task_type, items, split, metric or usual), report)


def integer(value: Any, what: str) -> int:
    """A number that a file may spell as a text."""
    try:
        if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
            return int(value)
    except ValueError:
        pass
    raise RowError("no number", f"{what} is {quoted(value)}, expected a whole number")
