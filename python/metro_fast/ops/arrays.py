"""numpy views of the caller's arrays and tensors, and results of the kind that came in."""

import mmap
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from metro_fast.errors import MetroFastError

if TYPE_CHECKING:
    import torch

    Array: TypeAlias = npt.NDArray[Any] | torch.Tensor
    """A numpy array or a CPU torch tensor."""
else:
    Array: TypeAlias = Any

Ids: TypeAlias = npt.NDArray[Any]
"""Token ids in any integer type."""

ArrayT = TypeVar("ArrayT", npt.NDArray[Any], "torch.Tensor")
"""The kind of array that came in, and therefore goes out: numpy's or torch's."""


def is_tensor(value: object) -> bool:
    """Whether `value` is a torch tensor; this never imports torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def on_cuda(value: object) -> bool:
    """Whether `value` is a torch tensor on a CUDA device."""
    return is_tensor(value) and bool(getattr(value, "is_cuda", False))


def view(name: str, value: object, *, bits: bool = False, write: bool = False) -> npt.NDArray[Any]:
    """The numpy array that shares its memory with an array or a CPU tensor.

    Args:
        name: Name of the argument, for the message.
        value: A numpy array or a torch tensor.
        bits: Whether to return a bfloat16 tensor, for which numpy lacks a type, as the uint16 array
            of its bits. Only for arguments that are floats, since the bits could pass for token
            ids.
        write: Whether the array will be written to. If not, a tensor that is stored negated or
            conjugated is copied.

    Raises:
        TypeError: If it is neither of the two, a masked array, or a tensor that is not in dense
            CPU memory.
        MetroFastError: If its file was truncated after it was mapped.
    """
    if isinstance(value, np.ndarray):
        if isinstance(value, np.ma.MaskedArray):  # as an array, it would be without its mask
            raise TypeError(
                f"{name} is a masked array, expected a plain one: give its .data, and what its "
                "mask means as an argument"
            )
        _check_mapping(name, value)
        # A matrix would keep two dimensions wherever it is reshaped.
        return value if type(value) is np.ndarray else value.view(np.ndarray)
    if not is_tensor(value):
        raise TypeError(
            f"{name} is a {type(value).__name__}, expected a numpy array or a torch tensor"
        )
    from metro_fast.ops.tensors import tensor_view

    return tensor_view(name, value, bits, write)


def _check_mapping(name: str, array: npt.NDArray[Any]) -> None:
    """Refuse an array in a mapped file that is shorter by now.

    To read behind its end ends the process. A file that is truncated during the call still does.

    Raises:
        MetroFastError: If it is.
    """
    base: Any = array.base
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and base.size() < len(base):
        raise MetroFastError(
            f"{name} is mapped from a file that had {len(base)} bytes and now has {base.size()}: "
            "it was truncated, write it again and open it again"
        )


def contiguous(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array itself if it is row-major and aligned, else a copy; a scalar keeps its shape."""
    if array.flags.c_contiguous and array.flags.aligned:
        return array
    return np.require(array, requirements=("C", "A")).reshape(array.shape)


def typed(name: str, value: object, dtype: type[np.generic]) -> npt.NDArray[Any]:
    """The contiguous view of an array or CPU tensor that must have one dtype.

    Raises:
        TypeError: If it has another dtype, or `view` refuses it.
    """
    array = view(name, value, bits=True)
    if array.dtype != np.dtype(dtype) or _is_bfloat16(value):
        found = str(getattr(value, "dtype", array.dtype)).removeprefix("torch.")
        raise TypeError(f"{name} has dtype {found}, expected {np.dtype(dtype)}")
    return contiguous(array)


def give(array: npt.NDArray[Any], *, tensor: bool) -> Any:
    """The array itself, or the tensor that shares its memory."""
    if not tensor:
        return array
    import torch

    return torch.from_numpy(array)


def integers(name: str, value: object, *, copy: bool = True) -> npt.NDArray[np.int64]:
    """One-dimensional integers (an array, tensor or sequence) as contiguous int64.

    Args:
        name: Name of the argument, for the message.
        value: The integers.
        copy: Whether they are always copied: a kernel checks them before it uses them, and another
            thread may change the caller's array in between. Only for a kernel that checks as it
            uses them is it False.

    Raises:
        TypeError: If they are not integers, or not one-dimensional.
    """
    array = view(name, value) if _is_array(value) else np.asarray(value)
    if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size > 0):
        raise TypeError(
            f"{name} has dtype {array.dtype} and {array.ndim} dimensions, "
            "expected integers in 1 dimension"
        )
    if array.dtype == np.uint64 and array.size > 0 and int(array.max()) >= 1 << 63:
        raise TypeError(f"{name} holds {int(array.max())}, which does not fit in int64")
    if copy:
        return np.array(array, dtype=np.int64)
    return np.require(array, dtype=np.int64, requirements=("C", "A"))


def refuse_shared(outs: Mapping[str, object], inputs: Mapping[str, object]) -> None:
    """Refuse an output that shares memory with an input or with another output.

    The native module distinguishes arrays by the object that owns their memory. Two views of one
    tensor have two owners, so that only their addresses show that they overlap.

    Args:
        outs: Arrays or tensors by the names of their arguments; None is ignored.
        inputs: The arrays that the call reads, in the same form; other values are ignored.

    Raises:
        MetroFastError: If two overlap.
    """
    written = {name: view(name, out, bits=True) for name, out in outs.items() if out is not None}
    if not written:
        return
    others = {name: view(name, x, bits=True) for name, x in inputs.items() if _is_array(x)}
    others |= written
    for name, out in written.items():
        for other, array in others.items():
            if name != other and np.may_share_memory(out, array):
                raise MetroFastError(
                    f"{name} shares memory with {other}, expected separate arrays: give an array "
                    "that does not overlap the others, or leave it out"
                )


def _is_bfloat16(value: object) -> bool:
    return str(getattr(value, "dtype", "")) == "torch.bfloat16"


def _is_array(value: object) -> bool:
    return isinstance(value, np.ndarray) or is_tensor(value)


def writable(name: str, value: object, dtype: type[np.generic], ndim: int) -> npt.NDArray[Any]:
    """The view of an array that a kernel writes into.

    Raises:
        TypeError: If it has another dtype or number of dimensions, is read-only or not contiguous.
    """
    array = view(name, value, write=True)
    if array.dtype != np.dtype(dtype) or array.ndim != ndim:
        raise TypeError(
            f"{name} is an array of {array.dtype} in {array.ndim} dimensions, "
            f"expected {np.dtype(dtype)} in {ndim}"
        )
    flags = array.flags
    if not (flags.c_contiguous and flags.writeable and flags.aligned):
        raise TypeError(f"{name} must be contiguous (row-major), aligned and writable")
    return array


def writable_pair(
    out: object,
    dtypes: tuple[type[np.generic], type[np.generic]],
    ndim: int,
    inputs: Mapping[str, object],
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]] | tuple[None, None]:
    """The views of the two arrays of an `out`, or (None, None) if `out` is None.

    Args:
        out: The caller's argument.
        dtypes: Types of the two arrays.
        ndim: Number of dimensions of both.
        inputs: The arrays that the call reads, by the names of their arguments.

    Raises:
        TypeError: If it is not a tuple or list of two arrays, or `writable` refuses one.
        MetroFastError: If they share memory with each other or with an input.
    """
    if out is None:
        return None, None
    if not isinstance(out, tuple | list) or len(out) != 2 or out[0] is None or out[1] is None:
        raise TypeError("out is not a pair of arrays, expected (input_ids, labels)")
    first = writable("out[0]", out[0], dtypes[0], ndim)
    second = writable("out[1]", out[1], dtypes[1], ndim)
    refuse_shared({"out[0]": first, "out[1]": second}, inputs)
    return first, second
