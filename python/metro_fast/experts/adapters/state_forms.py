"""State dicts as files of every form that is read: safetensors, numpy's two, torch's pickles."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from metro_fast._atomic import write_atomically
from metro_fast._extras import require
from metro_fast._shown import shown
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.state_file import PICKLES, write_safetensors
from metro_fast.experts.adapters.tensors import RawTensor

FORMS = (".safetensors", ".npy", ".npz", *PICKLES)
"""Suffixes of the files that `write_form` writes; `read_state` reads them."""


def write_form(
    path: Path, state: Mapping[str, RawTensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a state dict as one file, in the form that its name ends in, whole or not at all.

    Args:
        path: The file; its suffix is one of `FORMS`.
        state: Tensors by name.
        metadata: The text beside them, as `StateDict` has it, which only safetensors files hold.

    Raises:
        MissingExtraError: If a pickle is wanted, and torch is not installed.
        MetroFastError: If the form cannot hold the tensors, or there is such a file.
        OSError: If it cannot be written.

    Example:
        >>> tensors = {"prompt_embeddings": RawTensor.of(np.zeros((2, 3), np.float16), "prompt")}
        >>> write_form(Path("written.npy"), tensors)
        >>> np.load("written.npy").dtype
        dtype('float16')
    """
    if path.exists():
        raise MetroFastError(f"{path} exists already: remove it or choose another name")
    if path.suffix == ".safetensors":
        write_safetensors(path, state, metadata)
        return
    if metadata:
        raise MetroFastError(
            f"the tensors have metadata ({shown(next(iter(metadata)))}), which {path.suffix} files "
            "cannot hold: choose a target that ends in .safetensors"
        )
    file = io.BytesIO()
    if path.suffix in PICKLES:
        require("torch", "peft").save({name: t.torch() for name, t in state.items()}, file)
    else:
        _write_arrays(file, path, state)
    write_atomically(path, file.getbuffer())


def _write_arrays(file: io.BytesIO, path: Path, state: Mapping[str, RawTensor]) -> None:
    for name, tensor in state.items():
        if tensor.dtype == "BF16":
            raise MetroFastError(
                f"{shown(name)} has dtype BF16, which {path.suffix} files cannot hold: choose a "
                "target that ends in .safetensors"
            )
    if path.suffix == ".npz":
        # With `file` as a name of its own, numpy's function would refuse it as a keyword.
        with zipfile.ZipFile(file, "w") as archive:
            for name, tensor in state.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, tensor.numpy(), allow_pickle=False)
        return
    if len(state) != 1:
        raise MetroFastError(
            f"{path} can hold one array, and there are {len(state)} tensors: choose a target that "
            "ends in .npz or .safetensors"
        )
    np.lib.format.write_array(file, next(iter(state.values())).numpy(), allow_pickle=False)
