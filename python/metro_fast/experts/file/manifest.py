"""What an expert file says about itself (docs/expert-format.md, section 3)."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

ALIGNMENT = 32
"""Tensors start at multiples of this many trits."""


@dataclass(frozen=True)
class Group:
    """Tensors that share a scale.

    Attributes:
        name: A role, `"global"` or a tensor's name.
        density: Share of entries that was asked for.
        alpha: Scale over the group's standard deviation.
    """

    name: str
    density: float
    alpha: float


@dataclass(frozen=True)
class TernaryTensor:
    """A tensor that is stored as trits.

    Attributes:
        name: Its name in the state dict.
        dtype: `"F32"`, `"F16"` or `"BF16"`.
        shape: Its shape.
        group: Index of its group.
        initial: What a zero trit stands for: `"zero"`, `"one"` or `"given"`.
        start: Its first trit.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    group: int
    initial: str
    start: int

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class DenseTensor:
    """A tensor that is stored whole."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    crc32c: int


@dataclass(frozen=True)
class Base:
    """The model that the expert was made for, and a check of the values that must be brought."""

    model: str | None = None
    revision: str | None = None
    initial_crc32c: int | None = None


@dataclass(frozen=True)
class Manifest:
    """All of it. The native module checks it on reading and before writing."""

    kind: str
    scope: str
    alpha_rule: str
    base: Base
    groups: tuple[Group, ...]
    tensors: tuple[TernaryTensor, ...]
    dense: tuple[DenseTensor, ...]
    version: int = 1

    def to_json(self) -> str:
        """JSON with the keys of the format page."""
        return json.dumps(asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Read JSON that the native module has checked."""
        fields: dict[str, Any] = json.loads(text)
        shaped = [
            [entry | {"shape": tuple(entry["shape"])} for entry in fields.pop(key)]
            for key in ("tensors", "dense")
        ]
        return cls(
            base=Base(**fields.pop("base")),
            groups=tuple(Group(**entry) for entry in fields.pop("groups")),
            tensors=tuple(TernaryTensor(**entry) for entry in shaped[0]),
            dense=tuple(DenseTensor(**entry) for entry in shaped[1]),
            **fields,
        )

    @property
    def trits(self) -> int:
        """Length of the flat sequence of trits, gaps included."""
        return layout([tensor.size for tensor in self.tensors])[1]

    @property
    def parameters(self) -> int:
        """Entries of all tensors."""
        dense = sum(math.prod(tensor.shape) for tensor in self.dense)
        return sum(tensor.size for tensor in self.tensors) + dense


def layout(sizes: Sequence[int]) -> tuple[list[int], int]:
    """Where tensors of these sizes start, and the length of the whole sequence.

    Example:
        >>> layout([3, 32, 1])
        ([0, 32, 64], 96)
    """
    starts = []
    free = 0
    for size in sizes:
        starts.append(free)
        free += -(-size // ALIGNMENT) * ALIGNMENT
    return starts, free
