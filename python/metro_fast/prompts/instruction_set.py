"""A set of instructions, and its file."""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, overload

from metro_fast._atomic import write_atomically
from metro_fast._json import parse_json
from metro_fast._memory import check_file
from metro_fast._shown import shown
from metro_fast._yaml import parse_yaml
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.prompts.instruction import KINDS, Instruction

__all__ = ["InstructionSet"]

_REQUIRED_KEYS = ("id", "task_type", "text")
_OPTIONAL_KEYS = ("seen_by", "origin", "style", "license", "choices", "kind", "target", "syntax")
_KEYS = frozenset({*_REQUIRED_KEYS, *_OPTIONAL_KEYS})
_YAML_SUFFIXES = (".yaml", ".yml")


class InstructionSet(Sequence[Instruction]):
    """Instructions with unique ids, in order.

    Args:
        instructions: The instructions; an empty set is allowed.

    Raises:
        TypeError: If an element is not an `Instruction`.
        MetroFastError: If two instructions have the same id.

    Example:
        >>> instructions = InstructionSet(
        ...     [
        ...         Instruction("a", "re", "{{ x }}?", seen_by=("t0",)),
        ...         Instruction("b", "re", "Now: {{ x }}"),
        ...     ]
        ... )
        >>> [i.id for i in instructions.unseen("t0")]
        ['b']
        >>> instructions
        InstructionSet(2 instructions: 'a', 'b')
    """

    def __init__(self, instructions: Iterable[Instruction] = ()) -> None:
        self._instructions = tuple(instructions)
        ids: set[str] = set()
        for instruction in self._instructions:
            if not isinstance(instruction, Instruction):
                raise TypeError(f"{instruction!r} is not an Instruction; make one from it")
            if instruction.id in ids:
                raise MetroFastError(
                    f"the instruction id {instruction.id!r} is given twice; rename one of the two"
                )
            ids.add(instruction.id)

    def __len__(self) -> int:
        return len(self._instructions)

    @overload
    def __getitem__(self, index: int) -> Instruction: ...
    @overload
    def __getitem__(self, index: slice) -> "InstructionSet": ...
    def __getitem__(self, index: int | slice) -> "Instruction | InstructionSet":
        if isinstance(index, slice):
            return InstructionSet(self._instructions[index])
        return self._instructions[index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, InstructionSet):
            return NotImplemented
        return self._instructions == other._instructions

    def __hash__(self) -> int:
        return hash(self._instructions)

    def __repr__(self) -> str:
        ids = [repr(instruction.id) for instruction in self._instructions[:3]]
        shown = ", ".join(ids) + (", ..." if len(self) > len(ids) else "")
        noun = "instruction" if len(self) == 1 else "instructions"
        return f"InstructionSet({len(self)} {noun}{': ' * bool(ids)}{shown})"

    def for_task(self, task_type: str) -> "InstructionSet":
        """The instructions of one task type; the set may be empty."""
        return InstructionSet(i for i in self if i.task_type == task_type)

    def seen(self, model_family: str) -> "InstructionSet":
        """The instructions that models of that family were trained with."""
        return InstructionSet(i for i in self if i.is_seen_by(model_family))

    def unseen(self, model_family: str) -> "InstructionSet":
        """The instructions that models of that family were not trained with."""
        return InstructionSet(i for i in self if not i.is_seen_by(model_family))

    @property
    def families(self) -> tuple[str, ...]:
        """The model families that an instruction names in `seen_by`, sorted.

        Example:
            >>> words = [Instruction("a", "re", "x", seen_by=("t0", "flan-t5"))]
            >>> InstructionSet(words).families
            ('flan-t5', 't0')
        """
        return tuple(sorted({family for i in self for family in i.seen_by}))

    def of_kind(self, *kinds: str) -> "InstructionSet":
        """The instructions of some kinds, in order; the set may be empty.

        Raises:
            MetroFastError: If a kind is not one of `metro_fast.prompts.KINDS`.
        """
        for kind in kinds:
            if kind not in KINDS:
                raise MetroFastError(f"kind is {kind!r}; give some of {', '.join(KINDS)}")
        return InstructionSet(i for i in self if i.kind in kinds)

    @property
    def sha256(self) -> str:
        """Hash of all instructions in order."""
        records = [instruction.to_record() for instruction in self]
        text = json.dumps(records, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the set as YAML (`*.yaml`, `*.yml`) or JSON (`*.json`).

        Args:
            path: File to write.

        Returns:
            The path.

        Raises:
            MetroFastError: If the file has another suffix.
            OSError: If the file cannot be written.
        """
        path = Path(path)
        records = [instruction.to_record() for instruction in self]
        if _is_yaml(path):
            import yaml

            text = yaml.safe_dump(records, sort_keys=False, allow_unicode=True, width=100)
        else:
            text = json.dumps(records, indent=2, ensure_ascii=False) + "\n"
        return write_atomically(path, text)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "InstructionSet":
        """Read a YAML or JSON file: a list of objects with the arguments of `Instruction`.

        Args:
            path: File to read; its suffix says which of the two it is.

        Returns:
            The set.

        Raises:
            FileNotFoundError: If the file is absent.
            FormatError: If the file is damaged, a key is missing or unknown, a value is of the
                wrong kind, or an id is given twice; the message names the file and the entry.
            MetroFastError: If the suffix is not that of a YAML or JSON file.

        Example:
            >>> words = [Instruction("ask", "qa", "{{ question }} choose from : {{ options }}")]
            >>> path = InstructionSet(words).save("words.yaml")
            >>> InstructionSet.load(path)[0].id
            'ask'
        """
        path = Path(path)
        records = _parse(path)
        if not isinstance(records, list):
            raise FormatError(
                f"{path} holds a {type(records).__name__}; give a list of instructions"
            )
        instructions: list[Instruction] = []
        ids: set[str] = set()
        for number, record in enumerate(records, start=1):
            where = f"{path}: instruction {number}"
            if not isinstance(record, dict):
                raise FormatError(
                    f"{where} is {shown(repr(record))}; give an object with id, task_type, text"
                )
            missing = [key for key in _REQUIRED_KEYS if key not in record]
            if missing:
                raise FormatError(f"{where} lacks {', '.join(missing)}")
            unknown = sorted(str(key) for key in record.keys() - _KEYS)
            if unknown:
                allowed = ", ".join(sorted(_KEYS))
                raise FormatError(
                    f"{where} has the unknown key {shown(repr(unknown[0]))}; use {allowed}"
                )
            try:
                instruction = Instruction(**record)
            except (TypeError, MetroFastError) as error:
                raise FormatError(f"{where}: {error}") from error
            if instruction.id in ids:
                raise FormatError(f"{where}: the id {shown(repr(instruction.id))} is given twice")
            ids.add(instruction.id)
            instructions.append(instruction)
        return cls(instructions)


def _is_yaml(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix not in (*_YAML_SUFFIXES, ".json"):
        raise MetroFastError(f"{path} has the suffix {suffix!r}; give .yaml, .yml or .json")
    return suffix in _YAML_SUFFIXES


def _parse(path: Path) -> Any:
    """Read the plain values of a YAML or JSON file; nothing in it is executed."""
    is_yaml = _is_yaml(path)
    check_file(path)
    content = path.read_bytes()
    return parse_yaml(content, path) if is_yaml else parse_json(content, path)
