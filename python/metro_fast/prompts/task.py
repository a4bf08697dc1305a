"""A task: items of one kind that are scored together, and their file."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from metro_fast._atomic import write_atomically
from metro_fast._json import json_lines, parse_json
from metro_fast._shown import quoted
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.prompts.item import Item

__all__ = ["TASK_METRICS", "Task"]

TASK_METRICS = (
    "accuracy",
    "semeval_macro_f1",
    "tacred_micro_f1",
    "exact_match",
    "normalized_match",
    "token_f1",
)
"""Metrics that a task can have; `metro_fast.scoring.METRICS` computes them."""

_REQUIRED_KEYS = ("id", "fields", "choices", "answer")
_HEAD = ("task", "task_type", "split", "metric")
_KEYS = frozenset({*_REQUIRED_KEYS, *_HEAD, "group", "target"})


@dataclass(frozen=True, slots=True)
class Task:
    """Items of one kind, scored together.

    Args:
        name: Name of the task in every table.
        task_type: Kind of task (`re`, `qa`, `nli`, `cls`, ...); instructions of that type apply.
        items: At least one item; their ids must be unique.
        split: Which part of the data this is; a report never averages over two splits.
        metric: How answers are counted, one of `TASK_METRICS`.

    Raises:
        MetroFastError: If there is no item, an id is given twice, a name is empty, or the metric is
            unknown.

    Example:
        >>> items = [Item("1", {"word": "good"}, ("yes", "no"), 0)]
        >>> Task("praise", "cls", items)
        Task('praise', 'cls', 1 item, split='test')
    """

    name: str
    task_type: str
    items: tuple[Item, ...]
    split: str = field(default="test")
    metric: str = "accuracy"

    def __post_init__(self) -> None:
        for label in ("name", "task_type", "split", "metric"):
            value = getattr(self, label)
            if not isinstance(value, str):
                raise TypeError(f"task {label} is {quoted(value)}; give a string")
            if not value:
                raise MetroFastError(f"task {label} is empty; give a name")
        if self.metric not in TASK_METRICS:
            raise MetroFastError(
                f"task {quoted(self.name)}: the metric is {quoted(self.metric)}; give one of "
                f"{', '.join(TASK_METRICS)}"
            )
        object.__setattr__(self, "items", tuple(self.items))
        if not self.items:
            raise MetroFastError(f"task {quoted(self.name)} has no items; give at least 1")
        seen: set[str] = set()
        for item in self.items:
            if not isinstance(item, Item):
                raise TypeError(
                    f"task {quoted(self.name)}: {quoted(item)} is not an Item; make one from it"
                )
            if item.id in seen:
                raise MetroFastError(
                    f"task {quoted(self.name)}: the item id {quoted(item.id)} is given twice; give "
                    "each item its own id"
                )
            seen.add(item.id)

    def __repr__(self) -> str:
        noun = "item" if len(self.items) == 1 else "items"
        metric = "" if self.metric == "accuracy" else f", metric={self.metric!r}"
        return (
            f"Task({self.name!r}, {self.task_type!r}, {len(self.items)} {noun}, "
            f"split={self.split!r}{metric})"
        )

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)

    @property
    def sha256(self) -> str:
        """Hash of the items in order, equal if and only if two runs asked the same questions."""
        records = [item.to_record() for item in self.items]
        text = json.dumps(records, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def draw(self, count: int, *, seed: int = 0) -> "Task":
        """A part of the task: the items whose ids have the smallest hashes with the seed.

        A larger draw has the items of every smaller one. The first items of a file would be another
        sample, since files are often sorted by label or by difficulty.

        Args:
            count: Number of items, 1 to `len(task)`.
            seed: Seed of the draw.

        Returns:
            The task with those items, in their order here.

        Raises:
            MetroFastError: If the count is out of range.

        Example:
            >>> items = [Item(str(n), {"n": n}, ("odd", "even"), (n + 1) % 2) for n in range(9)]
            >>> [item.id for item in Task("parity", "cls", items).draw(3)]
            ['1', '4', '8']
        """
        if not 1 <= count <= len(self.items):
            raise MetroFastError(
                f"task {quoted(self.name)} has {len(self.items)} items; draw 1 to "
                f"{len(self.items)}, not {count}"
            )

        kept = {item.id for item in self.drawn_order(seed)[:count]}
        return replace(self, items=tuple(item for item in self.items if item.id in kept))

    def drawn_order(self, seed: int) -> list[Item]:
        """The items by the hash of the seed and their ids, as `draw` and `FewShot` take them."""

        def key(item: Item) -> bytes:
            return hashlib.sha256(f"{seed}\0{item.id}".encode()).digest()

        return sorted(self.items, key=key)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write one JSON object per line, which also names task, task_type, split and metric.

        The metric is left out if it is accuracy, as in files from before there were others.

        Args:
            path: File to write, usually `*.jsonl`.

        Returns:
            The path.

        Raises:
            OSError: If the file cannot be written.
        """
        head = {"task": self.name, "task_type": self.task_type, "split": self.split}
        if self.metric != "accuracy":
            head["metric"] = self.metric
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
        metric: str | None = None,
    ) -> "Task":
        """Read a file that `save` wrote, or one of items without a task, named by the arguments.

        Args:
            path: JSON Lines file; each line has `id`, `fields`, `choices`, `answer` and may have
                `group`, `target`, `task`, `task_type`, `split`, `metric`. Blank lines are skipped.
            name: Name of the task; by default the lines' `task`, or else the file's stem.
            task_type: Kind of task; by default the lines' `task_type`.
            split: Part of the data; by default the lines' `split`, or else `test`.
            metric: How answers are counted; by default the lines' `metric`, or else accuracy.

        Returns:
            The task.

        Raises:
            FileNotFoundError: If the file is absent.
            FormatError: If a line is not such an object; the message names the file and the line.
            MetroFastError: If neither a line nor the argument gives a task type, or the metric is
                unknown.

        Example:
            >>> items = [Item("1", {"word": "good"}, ("yes", "no"), 0)]
            >>> path = Task("praise", "cls", items).save("praise.jsonl")
            >>> Task.load(path).task_type
            'cls'
        """
        path = Path(path)
        items, heads = _read_items(path)
        known_type = task_type or heads.get("task_type")
        if known_type is None:
            raise MetroFastError(
                f"no line of {path} has a task_type; pass one, for instance task_type='re'"
            )
        return cls(
            name or heads.get("task", path.stem),
            known_type,
            tuple(items),
            split or heads.get("split", "test"),
            metric or heads.get("metric", "accuracy"),
        )


def _read_items(path: Path) -> tuple[list[Item], dict[str, str]]:
    """The items of a JSON Lines file, and what its lines name in common."""
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
                record.get("target"),
            )
        except (TypeError, MetroFastError) as error:
            raise FormatError(f"{where}: {error}") from error
        if item.id in first_line:
            raise FormatError(
                f"{where}: the item id {quoted(item.id)} is already on line {first_line[item.id]}; "
                "give each item its own id"
            )
        first_line[item.id] = number
        for key in _HEAD:
            if key in record and heads.setdefault(key, record[key]) != record[key]:
                raise FormatError(
                    f"{where}: {key} is {quoted(record[key])}, but {quoted(heads[key])} on an "
                    "earlier line; keep one task per file"
                )
        items.append(item)
    if not items:
        raise FormatError(f"{path} holds no items; give one JSON object per line")
    return items, heads


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The line numbers and objects of a JSON Lines file, each object with the right keys."""
    for number, line in json_lines(path):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        record = parse_json(line, where)
        if not isinstance(record, dict):
            raise FormatError(f"{where} holds a {type(record).__name__}; give a JSON object")
        missing = [key for key in _REQUIRED_KEYS if key not in record]
        if missing:
            raise FormatError(
                f"{where} lacks {', '.join(missing)}, so it is not an item: `metro-fast "
                "prompts read FILE --kind table` makes items of rows with columns"
            )
        unknown = sorted(record.keys() - _KEYS)
        if unknown:
            raise FormatError(
                f"{where} has the unknown key {quoted(unknown[0])}; put values for templates under "
                "'fields'"
            )
        yield number, record
