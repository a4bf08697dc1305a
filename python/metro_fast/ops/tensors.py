"""numpy views of torch tensors; only imported once the caller has a tensor."""

from typing import Any

import numpy.typing as npt
import torch

_NOT_DENSE = "{} is a {} tensor on {}, expected a dense CPU tensor: call .cpu() first"


def tensor_view(name: str, value: Any, bits: bool, write: bool) -> npt.NDArray[Any]:
    """`metro_fast.ops.arrays.view` of a tensor.

    Raises:
        TypeError: If it is not in dense CPU memory, or stands for something else.
    """
    if value.is_nested:
        raise TypeError(
            f"{name} is a nested tensor, expected one with a shape: give its rows, .unbind()"
        )
    if value.device.type != "cpu" or value.layout != torch.strided:
        raise TypeError(_NOT_DENSE.format(name, value.layout, value.device))
    kind = type(value)
    if kind.__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        # A DTensor or a fake tensor: its own memory is not its values.
        raise TypeError(
            f"{name} is a {kind.__name__}, expected a plain tensor: for a DTensor, give "
            ".full_tensor() or .to_local()"
        )
    if value.is_quantized:
        raise TypeError(
            f"{name} is a quantized tensor, expected one that holds its values: give "
            ".dequantize() or .int_repr()"
        )
    value = value.detach()
    if not write:
        value = value.resolve_conj().resolve_neg()
    if value.dtype == torch.bfloat16:
        if not bits:
            raise TypeError(f"{name} is a bfloat16 tensor, expected integers")
        value = value.view(torch.uint16)
    try:
        array: npt.NDArray[Any] = value.numpy()
    except (RuntimeError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise TypeError(
            f"{name} is a tensor that cannot be read or written as an array ({reason}): give one "
            "that is not negated, conjugated, or wrapped by a transform such as torch.vmap"
        ) from error
    return array
