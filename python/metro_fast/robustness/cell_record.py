"""The record of a cell: what its answers depend on, and what tables say about it."""

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from metro_fast.prompts import Instruction

__all__ = ["CellRecord"]


@dataclass(frozen=True)
class CellRecord:
    """Everything that identifies the answers of a cell, and what tables say about it.

    Attributes:
        model_name: Name of the model in every table.
        model_family: Family whose seen labels apply.
        model_hash: SHA-256 of the model's tensors, configuration and adapters.
        tokenizer_hash: SHA-256 of the tokenizer's mapping from text to ids.
        task: Name of the task.
        task_type: Type of the task, which instructions belong to.
        split: Split of the items.
        metric: How the task's answers are counted.
        items_hash: SHA-256 of all items of the task.
        instruction: The instruction.
        prompts_hash: SHA-256 of the items as this instruction words them.
        preset: Name of the protocol.
        protocol: The protocol's settings by name (`Protocol.identity`); of another harness, its
            name.
        shots: Number of worked examples before each item.
    """

    model_name: str
    model_family: str
    model_hash: str
    tokenizer_hash: str
    task: str
    task_type: str
    split: str
    metric: str
    items_hash: str
    instruction: Instruction
    prompts_hash: str
    preset: str
    protocol: Mapping[str, Any]
    shots: int = 0

    def __repr__(self) -> str:
        return (
            f"<CellRecord {self.model_name} x {self.task} x {self.instruction.id}; {self.preset}, "
            f"{self.identity[:8]}>"
        )

    @property
    def slot(self) -> tuple[str, str]:
        """The task and the id of the instruction, of which a report has one cell each."""
        return self.task, self.instruction.id

    @property
    def seen(self) -> bool:
        """Whether models of this family were trained with the instruction."""
        return self.instruction.is_seen_by(self.model_family)

    @property
    def instruction_hash(self) -> str:
        """SHA-256 of the instruction's text."""
        return _sha256(self.instruction.text)

    @functools.cached_property
    def protocol_hash(self) -> str:
        """SHA-256 of the protocol's settings."""
        return _sha256(json.dumps(dict(self.protocol), sort_keys=True))

    @functools.cached_property
    def identity(self) -> str:
        """SHA-256 of everything that the answers depend on.

        Names, families, seen labels and the metric are notes: they can change without a new run.
        """
        parts = {
            "model": self.model_hash,
            "tokenizer": self.tokenizer_hash,
            "items": self.items_hash,
            "prompts": self.prompts_hash,
            "protocol": self.protocol_hash,
        }
        return _sha256(json.dumps(parts, sort_keys=True))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
