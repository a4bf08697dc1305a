"""State dicts in untrusted files: safetensors, pickles of torch, a prompt as .npy."""

import io
import re
import tokenize
import warnings
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from metro_fast import _core
from metro_fast._atomic import write_atomically
from metro_fast._extras import require
from metro_fast._json import parse_json
from metro_fast._memory import check_decoded, check_file
from metro_fast._shown import shown
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.experts.adapters.absent import absent
from metro_fast.experts.adapters.limits import check_tensors
from metro_fast.experts.adapters.npz_file import read_npz
from metro_fast.experts.adapters.tensors import PLAIN_METADATA, RawTensor, StateDict, element

_T = TypeVar("_T")
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
EXTENSIONS = (".safetensors", *PICKLES, ".npy", ".npz")
_MODEL = "model.safetensors"
_SHARDS = "model.safetensors.index.json"
_NPY_NAME = "prompt_embeddings"
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


def read_state(path: Path) -> StateDict[RawTensor]:
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
        return StateDict({_NPY_NAME: read_npy(path)}, {})
    if path.suffix == ".npz":
        return StateDict(read_npz(path), {})
    raise MetroFastError(f"{path} ends in {path.suffix!r}, expected {', '.join(EXTENSIONS)}")


def read_safetensors(path: Path) -> StateDict[RawTensor]:
    """Read a safetensors file; the safetensors crate checks it.

    Raises:
        FormatError: If it is damaged, a Git LFS pointer, or something else.
        MetroFastError: If it is a compressed expert.
        TypeError: If a tensor has a dtype that adapters do not have.
    """
    file = read_bytes(path)
    try:
        places, metadata = _core.decode_safetensors_file(file)
    except FormatError as error:
        raise FormatError(f"{path}: {shown(str(error), 300)}") from error
    if any(name.startswith("compeft.") for name, *_ in places):
        raise MetroFastError(f"{path} is a compressed expert already: use Expert.load")
    for name, dtype, *_ in places:
        element(dtype, f"{path}: {shown(name)}")
    check_tensors([(name, shape) for name, _, shape, *_ in places], f"{path}: ")
    tensors = {
        name: RawTensor.from_bytes(dtype, tuple(shape), file[start:end])
        for name, dtype, shape, start, end in places
    }
    return StateDict(tensors, metadata)


def write_safetensors(
    path: Path, state: Mapping[str, RawTensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file whole or not at all.

    Args:
        path: The file.
        state: Tensors by name.
        metadata: The text beside them, as `StateDict` has it.

    Raises:
        OSError: If it cannot be written.
    """
    write_atomically(path, encoded(state, metadata))


def encoded(
    state: Mapping[str, RawTensor], metadata: Mapping[str, str] | None = None
) -> NDArray[np.uint8]:
    """The bytes of a safetensors file.

    Args:
        state: Tensors by name.
        metadata: The text beside them, as `StateDict` has it.
    """
    entries = [(name, t.dtype, list(t.shape), t.bytes) for name, t in state.items()]
    return _core.encode_safetensors(entries, dict(metadata or PLAIN_METADATA))


def read_bytes(path: Path) -> NDArray[np.uint8]:
    """The bytes of a file, which is not mapped: if another process cut it, ours would be killed."""
    check_decoded(path.stat().st_size, f"reading {shown(str(path))}")
    return np.fromfile(path, np.uint8)


def read_pickle(path: Path) -> StateDict[RawTensor]:
    """Read what `torch.save` wrote with the `weights_only` reader, which runs no code in it.

    Raises:
        MissingExtraError: If torch is not installed.
        FormatError: If it is damaged, or is more than a state dict.
    """
    torch = require("torch", "peft")
    content = read_bytes(path).tobytes()
    other = other_file(content)
    if other is not None:
        raise FormatError(f"{path} is not a pickle of tensors alone: it is {other}")
    import pickle
    import struct

    # What torch's reader raises for damaged files, found by cutting real ones and flipping bits.
    damage = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError,
              AttributeError, AssertionError, struct.error, OverflowError, MemoryError)  # fmt: skip
    try:
        with warnings.catch_warnings():
            # It warns of unknown pickle protocols; what it cannot read is an error anyway.
            warnings.simplefilter("ignore", UserWarning)
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except damage as error:
        raise FormatError(f"{path} is not a pickle of tensors alone: {_reason(error)}") from error
    if not isinstance(state, dict):
        raise FormatError(f"{path} holds a {type(state).__name__}, expected a state dict")
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            kind = type(tensor).__name__
            raise FormatError(
                f"{path} holds a {kind} named {shown(repr(name))}, expected tensors by name"
            )
    check_tensors([(name, tensor.shape) for name, tensor in state.items()], f"{path}: ")
    return StateDict({n: RawTensor.of(t, f"{path}: {n}") for n, t in state.items()}, {})


def _reason(error: BaseException) -> str:
    """Why torch does not read a pickle, without its advice to run the code in it instead."""
    text = str(error)
    found = _GLOBAL.search(text)
    if found:
        return (
            f"reading it would run {shown(found[1])}; whoever made it can save the tensors alone, "
            "as safetensors"
        )
    if isinstance(error, RuntimeError) and text.startswith("PytorchStreamReader"):
        return "it is cut or damaged"
    return "it is damaged, or another kind of file"


def other_file(content: bytes) -> str | None:
    """The kind of a file that is often found under another's name, or None.

    Example:
        >>> other_file(b""), other_file(b"PK")
        ('an empty file', None)
    """
    if not content:
        return "an empty file"
    if content.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself (run `git lfs pull`)"
    if content[:5].lower() in (b"<!doc", b"<html"):
        return "a web page, not the file itself (download it again)"
    if content[8:9] == b"{" and int.from_bytes(content[:8], "little") <= len(content) - 8:
        return "a safetensors file (name it .safetensors)"
    return None


def read_npy(path: Path) -> RawTensor:
    """Read an array; its header is checked against the size of the file before memory is taken.

    Raises:
        FormatError: If it is damaged, or holds Python objects.
        TypeError: If adapters do not have its dtype.
    """
    content = read_bytes(path).tobytes()
    other = other_file(content)
    if other is not None:
        raise FormatError(f"{path} is not an array as numpy saves it: it is {other}")
    file = io.BytesIO(content)
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
    return RawTensor.of(array.astype(dtype.newbyteorder("="), copy=False), str(path))


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
    check_file(folder / _SHARDS)
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


def _read_model(folder: Path) -> StateDict[RawTensor]:
    files, names = shard_files(folder)
    shards = {file: read_safetensors(file) for file in files}
    state = join_shards(shards)
    refuse_absent(folder, names, state)
    return state


def join_shards(shards: Mapping[Path, StateDict[_T]]) -> StateDict[_T]:
    """The tensors of all shards of a model, with the metadata of all.

    Raises:
        FormatError: If two shards differ in the value of one key of their metadata.
    """
    state: StateDict[_T] = StateDict({}, {})
    for file, shard in shards.items():
        state |= shard
        for key, value in shard.metadata.items():
            if state.metadata.setdefault(key, value) != value:
                raise FormatError(
                    f"{file} and a shard before it differ in {shown(repr(key))} of their metadata, "
                    "of which one file can carry one value: save the model with the same in all "
                    "shards"
                )
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
