"""A cell of the grid: one model on one task in the words of one instruction, item by item.

A cell is all that statistics need, so every table can be made again from saved cells. On disk it
is a `samples_*.jsonl` in lm-eval's shape (one object an item), with two additions: every line
names the cell's identity, and the first one also carries its `cell_record`. One subtraction: the
input text stands once in `arguments`, not once a choice.
"""

import functools
import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from metro_fast._atomic import write_atomically
from metro_fast._json import parse_json
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.prompts import Instruction, Item, Task
from metro_fast.scoring import predictions, tie_count

__all__ = ["Cell", "CellRecord", "cell_file_name"]


@dataclass(frozen=True)
class CellRecord:
    """What a number of this cell is a number of.

    `identity` covers what the scores depend on: the hashes of model, tokenizer and items, the
    instruction's text, the scoring protocol and its limits. Names and seen labels may change
    without a new run.
    """

    model_name: str
    model_family: str
    model_hash: str
    tokenizer_hash: str
    task: str
    task_type: str
    split: str
    items_hash: str
    instruction: Instruction
    preset: str
    max_input_length: int
    max_target_length: int

    @property
    def seen(self) -> bool:
        """Whether models of this family were trained with the instruction."""
        return self.instruction.is_seen_by(self.model_family)

    @property
    def instruction_hash(self) -> str:
        """SHA-256 of the instruction's text."""
        return _sha256(self.instruction.text)

    @functools.cached_property
    def identity(self) -> str:
        """SHA-256 of everything that the scores depend on."""
        parts = {
            "model": self.model_hash,
            "tokenizer": self.tokenizer_hash,
            "items": self.items_hash,
            "instruction": self.instruction.text,
            "preset": self.preset,
            "limits": [self.max_input_length, self.max_target_length],
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Cell:
    """Items, rendered inputs and scores of one (model, task, instruction).

    Args:
        record: What this is a cell of.
        items: The task's items, in order.
        inputs: The text that the model read, one an item.
        scores: Log-likelihood in nats of every choice, `[items][choices]`.

    Raises:
        MetroFastError: If the lengths do not agree, a score is NaN, or the items are not those
            that the record names.
    """

    record: CellRecord
    items: tuple[Item, ...]
    inputs: tuple[str, ...]
    scores: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        where = f"cell {self.record.task!r} x {self.record.instruction.id!r}"
        if not len(self.items) == len(self.inputs) == len(self.scores):
            raise MetroFastError(
                f"{where}: {len(self.items)} items, {len(self.inputs)} inputs, "
                f"{len(self.scores)} rows of scores"
            )
        for item, row in zip(self.items, self.scores, strict=True):
            if len(row) != len(item.choices):
                raise MetroFastError(
                    f"{where}, item {item.id!r}: {len(row)} scores, {len(item.choices)} choices"
                )
        if self.task.sha256 != self.record.items_hash:
            raise MetroFastError(f"{where}: the items are not those of its items_hash")
        self.predictions  # noqa: B018 - refuses NaN now, not in the middle of a report

    @property
    def task(self) -> Task:
        """The items as a task."""
        return Task(self.record.task, self.record.task_type, self.items, self.record.split)

    @functools.cached_property
    def predictions(self) -> list[int]:
        """Index of the best choice of each item; the first one wins a tie."""
        return predictions(self.scores)

    @functools.cached_property
    def correct(self) -> list[bool]:
        """Whether the prediction is the answer, for each item."""
        return [p == i.answer for p, i in zip(self.predictions, self.items, strict=True)]

    @property
    def accuracy(self) -> float:
        """Share of right predictions."""
        return sum(self.correct) / len(self.correct)

    @property
    def ties(self) -> int:
        """Items with several best choices."""
        return tie_count(self.scores)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the cell's file, whole or not at all; one of the same slot is replaced.

        Args:
            folder: Folder of the evaluation.

        Returns:
            The file.

        Raises:
            OSError: If it cannot be written.
        """
        lines = [json.dumps(line, ensure_ascii=False) for line in self._lines()]
        path = Path(folder) / cell_file_name(
            self.record.model_name, self.record.task, self.record.instruction.id
        )
        return write_atomically(path, "\n".join(lines) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Cell":
        """Read a cell's file and check it against its own hashes.

        Args:
            path: File written by `save`.

        Returns:
            The cell, equal to the one saved.

        Raises:
            FileNotFoundError: If the file is absent.
            FormatError: If it is damaged: not JSON, a key missing, lines lost, items changed.
        """
        path = Path(path)
        lines: list[dict[str, Any]] = []
        for number, text in enumerate(path.read_bytes().splitlines(), start=1):
            lines.append(parse_json(text, f"{path}:{number}"))
        try:
            values = dict(lines[0]["cell_record"])
            record = CellRecord(**(values | {"instruction": Instruction(**values["instruction"])}))
            items = tuple(Item(**line["doc"]) for line in lines)
            inputs = tuple(line["arguments"]["gen_args_0"]["arg_0"] for line in lines)
            scores = tuple(tuple(float(pair[0]) for pair in line["resps"]) for line in lines)
            identities = {line["cell"] for line in lines}
            cell = cls(record, items, inputs, scores)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise FormatError(
                f"{path}: not a whole cell ({type(error).__name__}: {error}); "
                "delete the file and evaluate again"
            ) from error
        if identities != {record.identity}:
            raise FormatError(f"{path}: lines of another cell; delete it and evaluate again")
        return cell

    def _lines(self) -> list[dict[str, Any]]:
        """One object an item, with lm-eval's keys; its numbers in `resps` are strings too."""
        lines = []
        for index, (item, text, row) in enumerate(
            zip(self.items, self.inputs, self.scores, strict=True)
        ):
            responses = [[repr(score), "False"] for score in row]
            doc = json.dumps(item.to_record(), sort_keys=True, ensure_ascii=False)
            lines.append(
                {
                    "doc_id": index,
                    "doc": item.to_record(),
                    "target": str(item.answer),
                    "arguments": {"gen_args_0": {"arg_0": text}},
                    "resps": responses,
                    "filtered_resps": responses,
                    "filter": "none",
                    "metrics": ["acc"],
                    "doc_hash": _sha256(doc),
                    "prompt_hash": _sha256(text),
                    "target_hash": _sha256(str(item.answer)),
                    "acc": float(self.correct[index]),
                    "cell": self.record.identity,
                }
            )
        lines[0]["cell_record"] = asdict(self.record)
        return lines


def cell_file_name(model_name: str, task: str, instruction_id: str) -> str:
    """File name of a cell: readable, and different for different names.

    Args:
        model_name: Name of the model.
        task: Name of the task.
        instruction_id: Id of the instruction.

    Returns:
        `samples_<model>_<task>_<instruction>.jsonl`; names with other characters than letters,
        digits, dot and dash are spelled out by a hash.

    Example:
        >>> cell_file_name("base", "re", "ask-1")
        'samples_base_re_ask-1.jsonl'
    """
    return f"samples_{slug(model_name)}_{slug(task)}_{slug(instruction_id)}.jsonl"


def slug(name: str) -> str:
    """A name that is safe in a file name; a hash keeps changed or long ones apart."""
    plain = re.sub(r"[^A-Za-z0-9.-]+", "-", name)[:60]
    return plain if plain == name else f"{plain}-{_sha256(name)[:8]}"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
