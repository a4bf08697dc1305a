"""Items of a task: the facts that an instruction turns into words, the choices, the answer."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metro_fast._atomic import write_atomically
from metro_fast._json import parse_json
from metro_fast.errors import FormatError, MetroFastError

__all__ = ["Item", "Task"]

# Templates see the fields, `choices` and `options` in one namespace.
_RESERVED_FIELDS = frozenset({"choices", "options"})
_REQUIRED_KEYS = ("id", "fields", "choices", "answer")
_KEYS = frozenset({*_REQUIRED_KEYS, "group", "task", "task_type", "split"})


@dataclass(frozen=True, slots=True)
class Item:
    """One question with its possible answers.

    Args:
        id: Name of the item, unique in its task.
        fields: The texts that templates may use, by name; `choices` and `options` are reserved.
        choices: At least two different answers, none blank.
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
                raise MetroFastError(f"{where}: the field name {name!r} is reserved; rename it")
        object.__setattr__(self, "choices", strings(self.choices, f"{where}: choices"))
        if len(self.choices) < 2:
            raise MetroFastError(f"{where}: {len(self.choices)} choices; give at least 2")
        if any(not choice.strip() for choice in self.choices):
            raise MetroFastError(f"{where}: a choice is blank in {self.choices!r}")
        if len(set(self.choices)) < len(self.choices):
            raise MetroFastError(f"{where}: a choice stands twice in {self.choices!r}")
        if isinstance(self.answer, bool) or not isinstance(self.answer, int):
            raise TypeError(f"{where}: answer is {self.answer!r}; give the index of a choice")
        if not 0 <= self.answer < len(self.choices):
            raise MetroFastError(
                f"{where}: answer {self.answer} is out of range; "
                f"{len(self.choices)} choices allow 0 to {len(self.choices) - 1}"
            )
        if self.group is not None and not isinstance(self.group, str):
            raise TypeError(f"{where}: group is {self.group!r}; give a string or None")

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


@dataclass(frozen=True, slots=True)
class Task:
    """Items of one kind, scored together.

    Args:
        name: Name of the task in every table.
        task_type: Kind of task (`re`, `qa`, `nli`, `cls`, ...); instructions of that type apply.
        items: At least one item; ids are unique.
        split: Which part of the data this is; a report never averages over two.

    Raises:
        MetroFastError: If there is no item, an id stands twice, or a name is empty.

    Example:
        >>> items = [Item("1", {"word": "good"}, ("yes", "no"), 0)]
        >>> len(Task("praise", "cls", items))
        1
    """

    name: str
    task_type: str
    items: tuple[Item, ...]
    split: str = field(default="test")

    def __post_init__(self) -> None:
        for label in ("name", "task_type", "split"):
            value = getattr(self, label)
            if not isinstance(value, str):
                raise TypeError(f"task {label} is {value!r}; give a string")
            if not value:
                raise MetroFastError(f"task {label} is empty; give a name")
        object.__setattr__(self, "items", tuple(self.items))
        if not self.items:
            raise MetroFastError(f"task {self.name!r} has no items; give at least 1")
        seen: set[str] = set()
        for item in self.items:
            if not isinstance(item, Item):
                raise TypeError(f"task {self.name!r}: {item!r} is not an Item")
            if item.id in seen:
                raise MetroFastError(f"task {self.name!r}: item id {item.id!r} stands twice")
            seen.add(item.id)

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)

    @property
    def sha256(self) -> str:
        """Hash of the items in order: equal if and only if two runs asked the same questions."""
        records = [item.to_record() for item in self.items]
        text = json.dumps(records, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write one JSON object a line; every line also names task, task_type and split.

        Args:
            path: File to write, usually `*.jsonl`.

        Returns:
            The path.

        Raises:
            OSError: If the file cannot be written.
        """
        head = {"task": self.name, "task_type": self.task_type, "split": self.split}
        lines = (json.dumps(head | item.to_record(), ensure_ascii=False) for item in self.items)
        return write_atomically(path, "".join(f"{line}\n" for line in lines))

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        task_type: str | None = None,
        split: str | None = None,
    ) -> "Task":
        """Read what `save` writes, or items alone with the names given here.

        Args:
            path: JSON Lines file; each line has `id`, `fields`, `choices`, `answer` and may have
                `group`, `task`, `task_type`, `split`. Blank lines are skipped.
            name: Name of the task; by default the lines' `task`, else the file's stem.
            task_type: Kind of task; by default the lines' `task_type`.
            split: Part of the data; by default the lines' `split`, else `test`.

        Returns:
            The task.

        Raises:
            FileNotFoundError: If the file is absent.
            FormatError: If a line is not such an object; the message has the file and the line.
            MetroFastError: If no task type is known.

        Example:
            >>> items = [Item("1", {"word": "good"}, ("yes", "no"), 0)]
            >>> path = Task("praise", "cls", items).save("praise.jsonl")
            >>> Task.load(path).task_type
            'cls'
        """
        path = Path(path)
        items: list[Item] = []
        first_line: dict[str, int] = {}
        heads: dict[str, str] = {}
        for number, record in _records(path):
            where = f"{path}:{number}"
            try:
                item = Item(
                    record["id"],
                    record["fields"],
                    record["choices"],
                    record["answer"],
                    record.get("group"),
                )
            except (TypeError, MetroFastError) as error:
                raise FormatError(f"{where}: {error}") from error
            if item.id in first_line:
                raise FormatError(
                    f"{where}: item id {item.id!r} stands on line {first_line[item.id]} already"
                )
            first_line[item.id] = number
            for key in ("task", "task_type", "split"):
                if key in record and heads.setdefault(key, record[key]) != record[key]:
                    raise FormatError(
                        f"{where}: {key} is {record[key]!r} but {heads[key]!r} above; "
                        "keep one task a file"
                    )
            items.append(item)
        if not items:
            raise FormatError(f"{path}: no items; give one JSON object a line")
        known_type = task_type or heads.get("task_type")
        if known_type is None:
            raise MetroFastError(f"{path}: no line has a task_type; pass task_type='re' or alike")
        return cls(
            name or heads.get("task", path.stem),
            known_type,
            tuple(items),
            split or heads.get("split", "test"),
        )


def check_text(value: str, what: str) -> None:
    """Refuse half of a surrogate pair, which JSON can spell and no file or tokenizer takes."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise MetroFastError(f"{what} is no text: {error}") from error


def strings(value: object, what: str) -> tuple[str, ...]:
    """A list of strings as a tuple; a bare string, which is iterable too, is refused."""
    if not isinstance(value, str) and isinstance(value, Iterable):
        elements = tuple(value)
        if all(isinstance(element, str) for element in elements):
            for element in elements:
                check_text(element, what)
            return elements
    raise TypeError(f"{what} is {value!r}; give a sequence of strings")


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and checked objects of a JSON Lines file."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            record = parse_json(line, where)
            if not isinstance(record, dict):
                raise FormatError(f"{where}: {type(record).__name__} instead of a JSON object")
            missing = [key for key in _REQUIRED_KEYS if key not in record]
            if missing:
                raise FormatError(f"{where}: missing {', '.join(missing)}")
            unknown = sorted(record.keys() - _KEYS)
            if unknown:
                raise FormatError(
                    f"{where}: unknown key {unknown[0]!r}; texts for templates go under 'fields'"
                )
            yield number, record
