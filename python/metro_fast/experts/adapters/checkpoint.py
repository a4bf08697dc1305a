"""Safetensors checkpoints that are read one tensor at a time: a file, or a folder of shards."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metro_fast import _core
from metro_fast._regular import read_array
from metro_fast._shown import shown
from metro_fast.errors import FormatError
from metro_fast.experts.adapters.absent import absent
from metro_fast.experts.adapters.limits import check_tensors
from metro_fast.experts.adapters.state_file import join_shards, refuse_absent, shard_files
from metro_fast.experts.adapters.tensors import RawTensor, StateDict, element


@dataclass(frozen=True)
class Place:
    """The position of a tensor in a checkpoint, with its dtype and shape.

    Attributes:
        path: The file.
        dtype: The name of its dtype in safetensors.
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
        """Read the tensor; the caller may change the array.

        Raises:
            FormatError: If the file has become shorter.
            OSError: If it cannot be read.
        """
        # The file is not mapped: if another process cut it, ours would be killed.
        kind = np.dtype(element(self.dtype))
        data = read_array(self.path, self.offset, self.size * kind.itemsize)
        if data.size != self.size * kind.itemsize:
            raise FormatError(
                f"{self.path} ends within a tensor: it is cut, or was changed while it was read"
            )
        return RawTensor(self.dtype, data.view(kind).reshape(self.shape))


def read_places(path: Path) -> StateDict[Place]:
    """Read the header of a .safetensors file, or of each shard in a folder with a model.

    Raises:
        FileNotFoundError: If there is no such file, or no model in the folder.
        FormatError: If a header is damaged or does not fit its file.
        TypeError: If a tensor has a dtype that adapters do not have.
        OSError: If a file cannot be read.
    """
    if not path.exists():
        raise absent(path, "model", "a .safetensors file or the folder of a model")
    if not path.is_dir():
        return _header(path)
    files, names = shard_files(path)
    places = join_shards({file: _header(file) for file in files})
    refuse_absent(path, names, places)
    return places


def _header(path: Path) -> StateDict[Place]:
    try:
        found, metadata = _core.read_safetensors_header(path)
    except FormatError as error:
        raise FormatError(f"{path}: {shown(str(error), 300)}") from error
    for name, dtype, *_ in found:
        element(dtype, f"{path}: {shown(name)}")
    check_tensors([(name, shape) for name, _, shape, *_ in found], f"{path}: ")
    places = {
        name: Place(path, dtype, tuple(shape), start) for name, dtype, shape, start, _ in found
    }
    return StateDict(places, metadata)
