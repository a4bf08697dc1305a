"""The folder of an evaluation: items, prompts and answers, each stored once.

    items/TASK-HASH.jsonl.gz                    the items of a task, as `Task.save` writes them
    prompts/TASK-INSTRUCTION-HASH.jsonl.gz      a line per item: its prompt, or why it has none
    cells/MODEL/PROTOCOL/TASK-INSTRUCTION-HASH.jsonl.gz   the record, then a line per answer

Each hash is of what the file holds or, for a cell, of all that its answers depend on. So another
model, protocol or wording never has the name of a file that is there.
"""

import functools
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from metro_fast._shown import quoted
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.prompts import Instruction, Item, Rendered, Task
from metro_fast.robustness.cell_record import CellRecord
from metro_fast.robustness.cells import Cell
from metro_fast.robustness.packed_lines import read_lines, write_lines
from metro_fast.robustness.prompt_lines import prompt_lines, read_prompt_lines
from metro_fast.robustness.worded import prompts_hash
from metro_fast.scoring import Outcome

__all__ = ["CELL_FORMAT", "CellFolder", "slug"]

CELL_FORMAT = "metro_fast.cell/2"
_HASH_DIGITS = 16


class CellFolder:
    """Cells on disk.

    Args:
        path: The folder; it need not exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        # 400 cells of one task share its items, which are read once.
        self._task = functools.cache(self._read_task)
        self._rendered = functools.lru_cache(maxsize=64)(self._read_prompts)

    def file_of(self, record: CellRecord) -> str:
        """The file of a cell, relative to the folder."""
        name = f"{slug(record.task)}-{slug(record.instruction.id)}-{_short(record.identity)}"
        return f"cells/{slug(record.model_name)}/{slug(record.preset)}/{name}.jsonl.gz"

    def files(self) -> list[str]:
        """The files of all cells, relative to the folder, in order of their names."""
        found = self.path.glob("cells/*/*/*.jsonl.gz")
        return sorted(path.relative_to(self.path).as_posix() for path in found)

    def find(self, record: CellRecord) -> Cell | None:
        """The saved cell of this name whose answers would be the same, whatever its notes.

        Raises:
            FormatError: If it is damaged.
        """
        name = self.file_of(record)
        if not (self.path / name).exists():
            return None
        cell = self.load(name)
        return cell if cell.record.identity == record.identity else None

    def save(self, cell: Cell) -> Path:
        """Write a cell with its items and prompts, each file completely or not at all.

        Args:
            cell: The cell.

        Returns:
            The file of the cell.

        Raises:
            OSError: If a file cannot be written.
        """
        record = cell.record
        items = self.path / _items_file(record)
        if not items.exists():
            write_lines(items, _item_lines(cell.task))
        prompts = self.path / _prompts_file(record)
        if not prompts.exists():
            write_lines(prompts, prompt_lines(cell.rendered))
        return write_lines(self.path / self.file_of(record), _answer_lines(cell))

    def load(self, name: str) -> Cell:
        """Read a cell, and check it against its own hashes.

        Args:
            name: Its file, relative to the folder.

        Returns:
            The cell, equal to the one saved.

        Raises:
            FileNotFoundError: If one of its files is absent.
            FormatError: If one is damaged: it is not JSON, a key or a line is missing, or a value
                was changed.
        """
        path = self.path / name
        lines = read_lines(path)
        try:
            head = lines[0]
            if head["format"] != CELL_FORMAT:
                raise FormatError(
                    f"{path} has the format {quoted(head['format'])}, expected "
                    f"{quoted(CELL_FORMAT)}"
                )
            values = dict(head["cell"])
            record = CellRecord(**(values | {"instruction": Instruction(**values["instruction"])}))
            exact = {"float32": _float32, "float64": float}[head["scores"]]
            outcomes = tuple(_outcome(line, exact) for line in lines[1:])
            if head["identity"] != record.identity:
                raise FormatError(f"{path}: the record is not that of its identity")
            if self.file_of(record) != name:
                raise FormatError(f"{path} holds another cell, {quoted(record)}; delete the file")
            items = self._task(_items_file(record), record.items_hash)
            task = Task(record.task, record.task_type, items.items, record.split, record.metric)
            rendered = self._rendered(
                _prompts_file(record), record.prompts_hash, _items_file(record), record.items_hash
            )
            return Cell(record, task, rendered, outcomes)
        except FileNotFoundError:
            raise
        except (KeyError, IndexError, TypeError, ValueError, MetroFastError) as error:
            if isinstance(error, FormatError):
                raise
            raise FormatError(
                f"{path} is not a complete cell ({type(error).__name__}: {error}); delete the file "
                "and evaluate again"
            ) from error

    def __iter__(self) -> Iterator[tuple[str, Cell]]:
        """Every cell with its file, in the order of `files`."""
        for name in self.files():
            yield name, self.load(name)

    def _read_task(self, name: str, items_hash: str) -> Task:
        path = self.path / name
        lines = read_lines(path)
        try:
            # Items alone are hashed; the rest is noted in each cell.
            task = Task(name, name, tuple(map(_item, lines)))
        except (KeyError, TypeError, MetroFastError) as error:
            raise FormatError(
                f"{path} does not hold items ({type(error).__name__}: {error}); delete the file "
                "and evaluate again"
            ) from error
        if task.sha256 != items_hash:
            raise FormatError(
                f"{path}: the items are not those of the hash {items_hash}; delete the file and "
                "evaluate again"
            )
        return task

    def _read_prompts(self, name: str, digest: str, items_name: str, items_hash: str) -> Rendered:
        path = self.path / name
        rendered = read_prompt_lines(read_lines(path), self._task(items_name, items_hash), path)
        if prompts_hash(rendered) != digest:
            raise FormatError(
                f"{path}: the prompts are not those of the hash {digest}; delete the file and "
                "evaluate again"
            )
        return rendered


def _items_file(record: CellRecord) -> str:
    return f"items/{slug(record.task)}-{_short(record.items_hash)}.jsonl.gz"


def _prompts_file(record: CellRecord) -> str:
    name = f"{slug(record.task)}-{slug(record.instruction.id)}-{_short(record.prompts_hash)}"
    return f"prompts/{name}.jsonl.gz"


def _item(line: dict[str, Any]) -> Item:
    return Item(
        line["id"], line["fields"], line["choices"], line["answer"], line["group"],
        line.get("target"),
    )  # fmt: skip


def _item_lines(task: Task) -> Iterator[dict[str, Any]]:
    """Lines as in the file of a task, so that the unpacked file can be given to `Task.load`."""
    head = {"task": task.name, "task_type": task.task_type, "split": task.split}
    for item in task:
        yield head | {"metric": task.metric} | item.to_record()


def _answer_lines(cell: Cell) -> Iterator[dict[str, Any]]:
    """The record, then an outcome per line.

    The engine sums in 32 bits. Such a score has 9 digits there and 17 as a float of 64 bits, which
    makes the files of 19 labels twice as large.
    """
    scores = [score for outcome in cell.outcomes for score in outcome.scores or ()]
    with np.errstate(over="ignore"):
        narrow = all(float(np.float32(score)) == score for score in scores)
    record = asdict(cell.record) | {"instruction": cell.record.instruction.to_record()}
    yield {
        "format": CELL_FORMAT,
        "identity": cell.record.identity,
        "scores": "float32" if narrow else "float64",
        "cell": record,
    }
    for outcome in cell.outcomes:
        line: dict[str, Any] = {"prediction": outcome.prediction}
        if outcome.scores is not None:
            line["scores"] = [_number(score, narrow) for score in outcome.scores]
        if outcome.text is not None:
            line["text"] = outcome.text
        if outcome.cut_tokens:
            line["cut"] = outcome.cut_tokens
        yield line


def _number(score: float, narrow: bool) -> float | str:
    """A score as JSON can hold it: an infinite one as a text."""
    if score in (float("inf"), float("-inf")):
        return str(score)
    return float(str(np.float32(score))) if narrow else score


def _float32(value: float | str) -> float:
    return float(np.float32(value))


def _outcome(line: dict[str, Any], exact: Any) -> Outcome:
    prediction, scores = line["prediction"], line.get("scores")
    text, cut = line.get("text"), line.get("cut", 0)
    if type(prediction) is not int or type(cut) is not int or not isinstance(text, str | None):
        raise TypeError(f"not an outcome: {line}")
    return Outcome(
        prediction, None if scores is None else tuple(exact(score) for score in scores), text, cut
    )


def slug(name: str) -> str:
    """A name that is safe in a file name; changed and long names get a hash to stay distinct.

    Args:
        name: Any name.

    Returns:
        Letters, digits, dots, underscores, plus signs and dashes.

    Example:
        >>> slug("t5_base"), slug("a/b")
        ('t5_base', 'a-b-c14cddc0')
    """
    plain = re.sub(r"[^A-Za-z0-9._+-]+", "-", name)[:60].lstrip(".")
    if plain == name:
        return plain
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _short(digest: str) -> str:
    return digest[:_HASH_DIGITS]
