"""Unpacks bytes into trits, or directly into scaled floats."""

import sys
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from metro_fast import _core
from metro_fast._dtype_name import dtype_name
from metro_fast._shown import shown
from metro_fast.errors import MetroFastError
from metro_fast.ops.arrays import Array, ArrayT, is_tensor, on_cuda, refuse_shared, typed, view
from metro_fast.ops.draws import resolve_threads
from metro_fast.ops.ternarize import CHUNK, check_scale

if TYPE_CHECKING:
    import torch

_NATIVE = {"int8": "i8", "float32": "f32", "float16": "f16", "bfloat16": "bf16"}
_EXPECTED = f"one of {', '.join(_NATIVE)}"

_BOTH = "dtype is {} and out is given, expected one of them: leave out dtype, since out has one"


@overload
def unpack(
    packed: Array,
    count: int,
    *,
    scale: float = ...,
    out: ArrayT,
    num_threads: int | None = ...,
) -> ArrayT: ...
@overload
def unpack(
    packed: Array,
    count: int,
    *,
    scale: float = ...,
    dtype: "torch.dtype",
    num_threads: int | None = ...,
) -> "torch.Tensor": ...
@overload
def unpack(
    packed: ArrayT,
    count: int,
    *,
    scale: float = ...,
    dtype: DTypeLike | None = ...,
    num_threads: int | None = ...,
) -> ArrayT: ...
def unpack(
    packed: Any,
    count: int,
    *,
    scale: float = 1.0,
    dtype: Any = None,
    out: Any = None,
    num_threads: int | None = None,
) -> Any:
    """Decode a block that `pack` made: `scale * trits`, rounded to nearest even.

    The bytes may be hostile: a damaged block is an error, never a read out of bounds.

    Args:
        packed: uint8 [n], array or tensor. If it is a CUDA tensor, so is the result.
        count: Number of trits in the block. It must be right, and is also the size to allocate.
        scale: Factor of the trits; must be 1 for int8.
        dtype: int8, float32 (the default), float16, or bfloat16 (only as a torch dtype).
        out: Array [count] to write to, instead of a new one; its dtype is used.
        num_threads: Number of threads; the machine's cores by default.

    Returns:
        `out`, or a new [count] array: a tensor if `packed` or `dtype` is torch's.

    Raises:
        TypeError: If a dtype is not one of these.
        FormatError: If the block is damaged.
        MetroFastError: If it holds another number of trits, or the scale does not fit.

    Example:
        >>> from metro_fast.ops import pack
        >>> unpack(pack(np.array([0, -1, 1], np.int8)), 3, scale=0.5)
        array([ 0. , -0.5,  0.5], dtype=float32)
    """
    if on_cuda(packed):
        return _on_cuda(packed, count, scale, dtype, out)
    block = typed("packed", packed, np.uint8).reshape(-1)
    held, _, _ = _core.block_info(block)
    if count != held:
        raise MetroFastError(f"count is {count}, expected {held}, the number of trits in packed")
    if out is None:
        out = _allocate(count, dtype, packed)
    elif dtype is not None:
        raise MetroFastError(_BOTH.format(dtype))
    target, name = _writable(out)
    if target.shape != (count,):
        raise MetroFastError(f"out has shape {target.shape}, expected ({count},)")
    if name == "int8" and scale != 1.0:
        raise MetroFastError(f"scale is {scale}, expected 1 for int8")
    check_scale(scale, name)
    refuse_shared({"out": target}, {"packed": block})
    threads = resolve_threads(num_threads, count, CHUNK)
    _core.unpack(block, scale, _NATIVE[name], target, threads)
    return out


def _on_cuda(packed: Any, count: int, scale: float, dtype: Any, out: Any) -> Any:
    from metro_fast.ops.cuda import kernels

    if out is None:
        import torch

        out = packed.new_empty(count, dtype=torch.float32 if dtype is None else dtype)
    elif dtype is not None:
        raise MetroFastError(_BOTH.format(dtype))
    elif tuple(out.shape) != (count,):
        raise MetroFastError(f"out has shape {tuple(out.shape)}, expected ({count},)")
    kernels.unpack_into(packed, scale, out)
    return out


def _allocate(count: int, dtype: Any, packed: object) -> Any:
    torch = sys.modules.get("torch")
    if torch is not None and (is_tensor(packed) or isinstance(dtype, torch.dtype)):
        name = "float32" if dtype is None else str(dtype).removeprefix("torch.")
        if name not in _NATIVE:
            name = dtype_name(dtype, _EXPECTED)
        return torch.empty(count, dtype=getattr(torch, name))
    if dtype is not None:
        dtype_name(dtype, _EXPECTED)
    return np.empty(count, np.float32 if dtype is None else dtype)


def _writable(out: Any) -> tuple[NDArray[Any], str]:
    """The view that the native module writes, and the name of its dtype."""
    array = view("out", out, bits=True, write=True)
    name = str(out.dtype).removeprefix("torch.")
    if name not in _NATIVE:
        raise TypeError(f"dtype is {shown(name)}, expected {_EXPECTED}")
    return (array.view(np.uint16) if name == "float16" else array), name
