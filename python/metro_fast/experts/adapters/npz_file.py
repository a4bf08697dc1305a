"""Untrusted archives of arrays, as `numpy.savez` writes them."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from metro_fast._memory import check_decoded
from metro_fast._shown import shown
from metro_fast.errors import FormatError, MetroFastError
from metro_fast.experts.adapters.limits import check_tensors
from metro_fast.experts.adapters.tensors import RawTensor


def read_npz(path: Path) -> dict[str, RawTensor]:
    """Read the arrays of an archive that `numpy.savez` wrote; objects are refused.

    Raises:
        FormatError: If it is damaged, or an array is larger than its header says.
        TypeError: If adapters do not have the dtype of an array.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {e.filename.removesuffix(".npy"): e for e in archive.infolist()}
            check_tensors([(name, ()) for name in entries], f"{path}: ")
            total = sum(entry.file_size for entry in archive.infolist())
            check_decoded(total, f"reading {shown(str(path))}")
            return {name: _member(archive, entry) for name, entry in entries.items()}
    except MetroFastError:
        raise
    except (zipfile.BadZipFile, ValueError, EOFError, KeyError, SyntaxError, NotImplementedError,
            RuntimeError, zlib.error, OverflowError) as error:  # fmt: skip
        raise FormatError(
            f"{path} is not an archive as numpy saves it: {shown(str(error))}"
        ) from error


def _member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> RawTensor:
    """One array, whose header is checked against its size before memory is taken."""
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        readers: dict[tuple[int, int], Any] = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in readers:
            raise ValueError(f"version {version[0]}.{version[1]}, expected 1.0 or 2.0")
        shape, fortran, dtype = readers[version](file)
        if dtype.hasobject:
            raise ValueError("it holds Python objects, which are refused")
        size = int(dtype.itemsize * np.prod(shape, dtype=object))
        # A byte of a deflated file holds 1,032 at most.
        if size > entry.file_size or size > 1032 * (entry.compress_size + 1):
            raise ValueError(f"shape {shape} of {dtype} does not fit the file")
        content = file.read(size)
        if len(content) != size or file.read(1):
            raise ValueError(f"shape {shape} of {dtype} is {size} bytes, and others follow")
    flat = np.frombuffer(content, dtype)
    array = flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)
    name = shown(entry.filename.removesuffix(".npy"))
    return RawTensor.of(array.astype(dtype.newbyteorder("="), copy=False), name)
