"""Safetensors checkpoints of which one tensor at a time is read: a file, or a folder of shards."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metro_fast._json import parse_json
from metro_fast.errors import FormatError
from metro_fast.experts.adapters.state_file import shard_files
from metro_fast.experts.adapters.tensors import RawTensor, element

_MAX_HEADER = 100_000_000
"""What the safetensors crate accepts."""


@dataclass(frozen=True)
class Place:
    """Where a tensor lies, and what it is.

    Attributes:
        path: The file.
        dtype: As safetensors names it.
        shape: Its shape.
        offset: Its first byte in the file.
    """

    path: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether it can be made ternary: float32, float16 or bfloat16."""
        return self.dtype in ("F32", "F16", "BF16")

    def read(self) -> RawTensor:
        """Read it; the array is the caller's to change.

        Raises:
            FormatError: If the file has become shorter.
            OSError: If it cannot be read.
        """
        # A file cut under a map kills the process, so nothing is mapped.
        data = np.fromfile(self.path, element(self.dtype), self.size, offset=self.offset)
        if data.size != self.size:
            raise FormatError(f"{self.path} ends within a tensor: cut, or changed while it is read")
        return RawTensor(self.dtype, data.reshape(self.shape))


def read_places(path: Path) -> dict[str, Place]:
    """Read the headers of a .safetensors file, or of all shards of a folder with a model.

    Raises:
        FileNotFoundError: If nothing is there.
        FormatError: If a header is damaged or does not fit its file.
        TypeError: If a tensor has a dtype that adapters do not have.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}")
    if not path.is_dir():
        return _header(path)
    files, names = shard_files(path)
    places: dict[str, Place] = {}
    for file in files:
        places |= _header(file)
    missing = sorted(names - set(places))
    if missing:
        raise FormatError(f"the shards of {path} hold no {missing[0]}, which their index names")
    return places


def _header(path: Path) -> dict[str, Place]:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _MAX_HEADER):
            raise FormatError(f"{path}: a header of {length} bytes in {size}: no safetensors file")
        fields = parse_json(file.read(length), path)
    if not isinstance(fields, dict):
        raise FormatError(f"{path}: the header is no JSON object: no safetensors file")
    fields.pop("__metadata__", None)
    places = {str(name): _place(path, str(name), fields[name], 8 + length) for name in fields}
    end = 8 + length
    for place in sorted(places.values(), key=lambda place: (place.offset, place.size)):
        if place.offset != end:
            raise FormatError(f"{path}: its tensors overlap or leave gaps: damaged")
        end += place.size * element(place.dtype).itemsize
    if end != size:
        raise FormatError(f"{path}: {size} bytes, its header says {end}: cut or damaged")
    return places


def _place(path: Path, name: str, field: Any, start: int) -> Place:
    if not isinstance(field, dict):
        raise FormatError(f"{path}: {name} is not described by a JSON object: damaged")
    shape: Any = field.get("shape")
    offsets: Any = field.get("data_offsets")
    lists = isinstance(shape, list) and isinstance(offsets, list) and len(offsets) == 2
    if not lists or not all(type(number) is int and number >= 0 for number in shape + offsets):
        raise FormatError(f"{path}: {name} has shape {shape} at {offsets}: damaged")
    place = Place(path, str(field.get("dtype")), tuple(shape), start + offsets[0])
    if place.size * element(place.dtype).itemsize != offsets[1] - offsets[0]:
        raise FormatError(f"{path}: {name} of shape {shape} does not fit {offsets}: damaged")
    return place
