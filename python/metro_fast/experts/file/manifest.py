"""The manifest of an expert file (docs/expert-format.md, section 3)."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from metro_fast.experts.adapters.initial import Initial

ALIGNMENT = 32
"""Tensors start at multiples of this many trits."""


@dataclass(frozen=True)
class Group:
    """Tensors that share a scale.

    Attributes:
        name: A role, `"global"` or a tensor's name.
        density: The share of entries that was asked for.
        alpha: The scale divided by the standard deviation of the group.
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
        initial: The value that a zero trit stands for: `"zero"`, `"one"` or `"given"`.
        start: Its first trit.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    group: int
    initial: Initial
    start: int

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class DenseTensor:
    """A tensor that is stored whole, with a checksum of its bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    crc32c: int


@dataclass(frozen=True)
class Base:
    """The model that the expert was made for.

    Attributes:
        model: Its name or path, if it is known.
        revision: Its revision, if one is known.
        initial_crc32c: Checksum of the initial values that decoding needs, or None.
    """

    model: str | None = None
    revision: str | None = None
    initial_crc32c: int | None = None


@dataclass(frozen=True)
class Manifest:
    """The description of an expert; the native module checks it on reading and before writing.

    Attributes:
        kind: lora, ia3, prompt, full or other.
        scope: role, global or tensor.
        alpha_rule: fixed or least_squares.
        base: The model that the expert was made for.
        groups: Groups of tensors that share a scale.
        tensors: The ternary tensors, in ascending order of names.
        dense: The dense tensors, in ascending order of names.
        metadata: The text that the source's safetensors file carried beside its tensors, kept for
            the readers of that file; nothing here relies on it.
        config_crc32c: The checksum of the adapter_config.json beside the expert (see
            `config_checksum`), or None if it has none, or is older than the checksum.
    """

    kind: str
    scope: str
    alpha_rule: str
    base: Base
    groups: tuple[Group, ...]
    tensors: tuple[TernaryTensor, ...]
    dense: tuple[DenseTensor, ...]
    metadata: dict[str, str] = field(default_factory=dict)
    config_crc32c: int | None = None

    @property
    def version(self) -> int:
        """The version of the format: the least that has what the expert needs."""
        if self.config_crc32c is not None:
            return 3
        return 2 if self.metadata else 1

    def __repr__(self) -> str:
        return (
            f"Manifest(kind={self.kind!r}, scope={self.scope!r}, {len(self.groups)} groups, "
            f"{len(self.tensors)} ternary and {len(self.dense)} dense tensors)"
        )

    def to_json(self) -> str:
        """The manifest in JSON, with the keys of the format page."""
        fields = asdict(self) | {"version": self.version}
        if not self.metadata:
            del fields["metadata"]
        if self.config_crc32c is None:
            del fields["config_crc32c"]
        return json.dumps(fields, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Read JSON that the native module has checked."""
        fields: dict[str, Any] = json.loads(text)
        del fields["version"]  # it follows from the other fields
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

    def named_shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        """Names and shapes of all tensors, and the names of the groups."""
        return [
            *((tensor.name, tensor.shape) for tensor in self.tensors),
            *((tensor.name, tensor.shape) for tensor in self.dense),
            *((group.name, ()) for group in self.groups),
        ]

    @property
    def needs_initial(self) -> bool:
        """Whether decoding needs the initial values that the expert was made with."""
        return any(tensor.initial == "given" for tensor in self.tensors)

    @property
    def trits(self) -> int:
        """Length of the flat sequence of trits, including gaps."""
        return layout([tensor.size for tensor in self.tensors])[1]

    @property
    def parameters(self) -> int:
        """Number of entries of all tensors."""
        dense = sum(math.prod(tensor.shape) for tensor in self.dense)
        return sum(tensor.size for tensor in self.tensors) + dense


def layout(sizes: Sequence[int]) -> tuple[list[int], int]:
    """Starts of tensors of these sizes, and the length of the whole sequence.

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
