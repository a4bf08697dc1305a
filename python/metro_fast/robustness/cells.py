"""A cell of the grid: one model on one task in the words of one instruction, item by item.

Statistics need nothing but cells, so every table can be recomputed from saved cells. On disk a cell
is a `samples_*.jsonl` in lm-eval's shape, with one object per item. It has two additions: every
line has the cell's identity, and the first line also has its `cell_record`. It leaves out one
thing: the input text is in `arguments` once, not once per choice.
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
    """Everything that identifies the numbers of a cell.

    `identity` covers all that the scores depend on: the hashes of model, tokenizer and items, the
    instruction's text, the scoring protocol and its limits. Names and seen labels can change
    without a new run.

    Attributes:
        model_name: Name of the model in every table.
        model_family: Family whose seen labels apply.
        model_hash: SHA-256 of the model's tensors, configuration and adapters.
        tokenizer_hash: SHA-256 of the tokenizer's mapping from text to ids.
        task: Name of the task.
        task_type: Type of the task, which instructions belong to.
        split: Split of the items.
        items_hash: SHA-256 of the items.
        instruction: The instruction.
        preset: Scoring protocol.
        max_input_length: Tokens to which inputs were cut.
        max_target_length: Tokens to which choices were cut.
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

    def __repr__(self) -> str:
        return (
            f"<CellRecord {self.model_name} x {self.task} x {self.instruction.id}; {self.preset}, "
            f"{self.identity[:8]}>"
        )

    @property
    def seen(self) -> bool:
        """Whether models of this family were trained with the instruction."""
        return self.instruction.is_seen_by(self.model_family)

    @property
    def instruction_hash(self) -> str:
        """SHA-256 of the instruction's text."""
        return _sha256(self.instruction.text)

    @property
    def _wording(self) -> str | dict[str, object]:
        """The text alone, on which scores depend, unless the instruction has choices of its own."""
        instruction = self.instruction
        parts = {"choices", "target", "syntax"} & instruction.to_record().keys()
        if not parts:
            return instruction.text
        return {"text": instruction.text} | {part: getattr(instruction, part) for part in parts}

    @functools.cached_property
    def identity(self) -> str:
        """SHA-256 of everything that the scores depend on."""
        parts = {
            "model": self.model_hash,
            "tokenizer": self.tokenizer_hash,
            "items": self.items_hash,
            "instruction": self._wording,
            "preset": self.preset,
            "limits": [self.max_input_length, self.max_target_length],
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Cell:
    """Items, rendered inputs and scores of one (model, task, instruction).

    Args:
        record: The model, task, instruction and protocol.
        items: The task's items, in order.
        inputs: The text that the model read for each item.
        scores: Log-likelihood in nats of every choice, `[items][choices]`.

    Raises:
        MetroFastError: If the lengths do not agree, a score is NaN, or the items are not those
            that the record identifies.
    """

    record: CellRecord
    items: tuple[Item, ...]
    inputs: tuple[str, ...]
    scores: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        where = f"cell {self.record.task!r} x {self.record.instruction.id!r}"
        if not len(self.items) == len(self.inputs) == len(self.scores):
            raise MetroFastError(
                f"{where} has {len(self.items)} items, {len(self.inputs)} inputs and "
                f"{len(self.scores)} rows of scores, expected equal numbers"
            )
        for item, row in zip(self.items, self.scores, strict=True):
            if len(row) != len(item.choices):
                raise MetroFastError(
                    f"{where}, item {item.id!r} has {len(row)} scores, {len(item.choices)} choices"
                )
        if self.task.sha256 != self.record.items_hash:
            raise MetroFastError(
                f"{where}: the items have the hash {self.task.sha256}, so they are not those of "
                f"its items_hash {self.record.items_hash}"
            )
        self.predictions  # noqa: B018 - raises for NaN now, and not in the middle of a report

    def __repr__(self) -> str:
        record = self.record
        return (
            f"<Cell {record.model_name} x {record.task} x {record.instruction.id}; "
            f"{sum(self.correct)} of {len(self.items)} correct>"
        )

    @property
    def task(self) -> Task:
        """The items as a task."""
        return Task(self.record.task, self.record.task_type, self.items, self.record.split)

    @functools.cached_property
    def predictions(self) -> list[int]:
        """Index of the best choice of each item; in a tie the first one."""
        return predictions(self.scores)

    @functools.cached_property
    def correct(self) -> list[bool]:
        """For each item, whether the prediction is the correct answer."""
        return [p == i.answer for p, i in zip(self.predictions, self.items, strict=True)]

    @property
    def accuracy(self) -> float:
        """Share of correct predictions."""
        return sum(self.correct) / len(self.correct)

    @property
    def ties(self) -> int:
        """Number of items with several best choices."""
        return tie_count(self.scores)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the cell's file, completely or not at all.

        A file of the same model name, task and instruction is replaced.

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
            FormatError: If it is damaged: it is not JSON, a key or a line is missing, or items
                were changed.
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
                f"{path} is not a complete cell ({type(error).__name__}: {error}): delete the file "
                "and evaluate again"
            ) from error
        if identities != {record.identity}:
            raise FormatError(
                f"{path} has lines of another cell: delete the file and evaluate again"
            )
        return cell

    def _lines(self) -> list[dict[str, Any]]:
        """One object per item, with lm-eval's keys; numbers in `resps` are strings there too."""
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
        record = asdict(self.record) | {"instruction": self.record.instruction.to_record()}
        lines[0]["cell_record"] = record
        return lines


def cell_file_name(model_name: str, task: str, instruction_id: str) -> str:
    """The file name of a cell, which is readable, and different for different names.

    Args:
        model_name: Name of the model.
        task: Name of the task.
        instruction_id: Id of the instruction.

    Returns:
        `samples_<model>_<task>_<instruction>.jsonl`; a name with characters other than letters,
        digits, dots and dashes is replaced by a similar one with a hash.

    Example:
        >>> cell_file_name("base", "re", "ask-1")
        'samples_base_re_ask-1.jsonl'
    """
    return f"samples_{slug(model_name)}_{slug(task)}_{slug(instruction_id)}.jsonl"


def slug(name: str) -> str:
    """A name that is safe in a file name; changed and long names get a hash to stay distinct."""
    plain = re.sub(r"[^A-Za-z0-9.-]+", "-", name)[:60]
    return plain if plain == name else f"{plain}-{_sha256(name)[:8]}"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
