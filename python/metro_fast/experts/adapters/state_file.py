"""State dicts in untrusted files: safetensors, pickles of torch, a prompt as .npy."""

import io
import tokenize
import warnings
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metro_fast import _core
from metro_fast._extras import require
from metro_fast._json import parse_json
from metro_fast._shown import shown
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.experts.adapters.absent import absent
from metro_fast.experts.adapters.limits import check_tensors
from metro_fast.experts.adapters.npz_file import read_npz
from metro_fast.experts.adapters.tensors import RawTensor

PICKLES = (".bin", ".pt", ".pth", ".ckpt")
EXTENSIONS = (".safetensors", *PICKLES, ".npy", ".npz")
_MODEL = "model.safetensors"
_SHARDS = "model.safetensors.index.json"
_NPY_NAME = "prompt_embeddings"


def read_state(path: Path) -> dict[str, RawTensor]:
    """Read a state dict; the extension of the file says how.

    A `.npy` file holds one array, which is taken to be a soft prompt and named
    `prompt_embeddings`. A folder is a model that transformers saved: model.safetensors or shards.

    Raises:
        FileNotFoundError: If there is no such file.
        FormatError: If it is damaged, or has more than tensors in it.
        MetroFastError: If the extension is unknown.
    """
    if path.is_dir():
        return _read_model(path)
    if not path.exists():
        raise absent(path, "weights", f"a file that ends in {', '.join(EXTENSIONS)}")
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    if path.suffix in PICKLES:
        return read_pickle(path)
    if path.suffix == ".npy":
        return {_NPY_NAME: read_npy(path)}
    if path.suffix == ".npz":
        return read_npz(path)
    raise MetroFastError(f"{path} ends in {path.suffix!r}, expected {', '.join(EXTENSIONS)}")


def read_safetensors(path: Path) -> dict[str, RawTensor]:
    """Read a safetensors file; the safetensors crate checks it.

    Raises:
        FormatError: If it is damaged, a Git LFS pointer, or something else.
        MetroFastError: If it is a compressed expert.
        TypeError: If a tensor has a dtype that adapters do not have.
    """
    file = read_bytes(path)
    try:
        places = _core.decode_safetensors(file)
    except FormatError as error:
        raise FormatError(f"{path}: {shown(str(error), 300)}") from error
    check_tensors([(name, shape) for name, _, shape, *_ in places], f"{path}: ")
    if any(name.startswith("compeft.") for name, *_ in places):
        raise MetroFastError(f"{path} is a compressed expert already: use Expert.load")
    return {
        name: RawTensor.from_bytes(dtype, tuple(shape), file[start:end])
        for name, dtype, shape, start, end in places
    }


def write_safetensors(path: Path, state: Mapping[str, RawTensor]) -> None:
    """Write a safetensors file whole or not at all.

    Raises:
        OSError: If it cannot be written.
    """
    entries = [(name, t.dtype, list(t.shape), t.bytes) for name, t in state.items()]
    _core.write_file(path, _core.encode_safetensors(entries))


def read_bytes(path: Path) -> NDArray[np.uint8]:
    """The bytes of a file, which is not mapped: if another process cut it, ours would be killed."""
    return np.fromfile(path, np.uint8)


def read_pickle(path: Path) -> dict[str, RawTensor]:
    """Read what `torch.save` wrote with the `weights_only` reader, which runs no code in it.

    Raises:
        MissingExtraError: If torch is not installed.
        FormatError: If it is damaged, or is more than a state dict.
    """
    torch = require("torch", "peft")
    import pickle
    import struct

    # What torch's reader raises for damaged files, found by cutting real ones and flipping bits.
    damage = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError,
              AttributeError, AssertionError, struct.error, OverflowError, MemoryError)  # fmt: skip
    try:
        with warnings.catch_warnings():
            # It warns of unknown pickle protocols; what it cannot read is an error anyway.
            warnings.simplefilter("ignore", UserWarning)
            file = io.BytesIO(path.read_bytes())
            state = torch.load(file, map_location="cpu", weights_only=True)
    except damage as error:
        reason = str(error).partition("\n")[0]
        raise FormatError(
            f"{path} is not a pickle of tensors alone: {shown(reason, 300)}"
        ) from error
    if not isinstance(state, dict):
        raise FormatError(f"{path} holds a {type(state).__name__}, expected a state dict")
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            kind = type(tensor).__name__
            raise FormatError(
                f"{path} holds a {kind} named {shown(repr(name))}, expected tensors by name"
            )
    check_tensors([(name, tensor.shape) for name, tensor in state.items()], f"{path}: ")
    return {name: RawTensor.of(tensor, name) for name, tensor in state.items()}


def read_npy(path: Path) -> RawTensor:
    """Read an array; its header is checked against the size of the file before memory is taken.

    Raises:
        FormatError: If it is damaged, or holds Python objects.
        TypeError: If adapters do not have its dtype.
    """
    file = io.BytesIO(path.read_bytes())
    try:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version[0]}.{version[1]}, expected 1.0 or 2.0")
        read: Any = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = read(file)
        if dtype.hasobject:
            raise ValueError("it holds Python objects, which are refused")
        if any(extent < 0 for extent in shape):
            raise ValueError(f"its shape is {shape}")
        start = file.tell()
        size = int(dtype.itemsize * np.prod(shape, dtype=object))
        found = len(file.getbuffer()) - start
        if size != found:
            raise ValueError(f"shape {shape} of {dtype} is {size} bytes, but {found} follow")
    except (ValueError, EOFError, TypeError, KeyError, SyntaxError, tokenize.TokenError,
            RecursionError, MemoryError) as error:  # fmt: skip
        raise FormatError(
            f"{path} is not an array as numpy saves it: {shown(str(error), 300)}"
        ) from error
    flat = np.frombuffer(file.getvalue(), dtype, offset=start)
    array = flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)
    # In the byte order of the machine.
    return RawTensor.of(array.astype(dtype.newbyteorder("="), copy=False), _NPY_NAME)


def shard_files(folder: Path) -> tuple[list[Path], set[str]]:
    """The safetensors files of a model, and the names in their index, if there is one.

    Raises:
        FileNotFoundError: If the folder holds no model.
        FormatError: If the index is damaged.
    """
    if (folder / _MODEL).exists():
        return [folder / _MODEL], set()
    if not (folder / _SHARDS).exists():
        raise absent(folder, "model", f"{_MODEL} or {_SHARDS}")
    index = parse_json((folder / _SHARDS).read_bytes(), folder / _SHARDS)
    shards = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(shards, dict):
        raise FormatError(f"{folder / _SHARDS} holds no weight_map, which names the shards")
    files = sorted({str(name) for name in shards.values()})
    for name in files:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise FormatError(
                f"{folder / _SHARDS} names {shown(repr(name))}, expected a file beside it"
            )
    return [folder / name for name in files], set(shards)


def _read_model(folder: Path) -> dict[str, RawTensor]:
    files, names = shard_files(folder)
    state: dict[str, RawTensor] = {}
    for file in files:
        state |= read_safetensors(file)
    refuse_absent(folder, names, state)
    return state


def refuse_absent(folder: Path, names: Iterable[str], found: Collection[str]) -> None:
    """Refuse shards that lack a tensor which their index names.

    Raises:
        FormatError: Naming the first such tensor.
    """
    lacking = sorted(set(names) - set(found))
    if lacking:
        raise FormatError(
            f"the shards of {folder} do not hold {shown(lacking[0])}, which their index names"
        )
