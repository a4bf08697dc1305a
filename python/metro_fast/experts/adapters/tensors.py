"""Tensors as bytes with the name of their dtype: experts have bfloat16, which numpy lacks."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from metro_fast._dtype_name import dtype_name as numpy_name
from metro_fast._shown import shown

if TYPE_CHECKING:
    import torch

_T = TypeVar("_T")
_NUMPY = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "I16": np.dtype(np.int16),
    "I32": np.dtype(np.int32),
    "I64": np.dtype(np.int64),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(np.uint16),  # the bits
    "F32": np.dtype(np.float32),
    "F64": np.dtype(np.float64),
}
_NAMES = {dtype: name for name, dtype in _NUMPY.items() if name != "BF16"}
_TORCH = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
}


PLAIN_METADATA = {"format": "pt"}
"""The metadata that torch, PEFT and transformers write into every safetensors file."""


@dataclass(frozen=True)
class RawTensor:
    """The elements of a tensor and the name of their dtype.

    Attributes:
        dtype: Its name in safetensors, for instance `"BF16"`.
        data: The elements, in the tensor's shape; for BF16 their bits as uint16.

    Example:
        >>> RawTensor("BF16", np.zeros((2, 3), np.uint16))
        RawTensor(BF16, shape=(2, 3))
    """

    dtype: str
    data: NDArray[Any]

    def __repr__(self) -> str:
        return f"RawTensor({self.dtype}, shape={self.shape})"

    @classmethod
    def of(cls, tensor: Any, name: str) -> "RawTensor":
        """Borrow a numpy array or a torch tensor, which is copied if it is not on the CPU.

        A `RawTensor` is returned unchanged.

        Raises:
            TypeError: If it is something else, or has a dtype that adapters do not have.
        """
        if isinstance(tensor, cls):
            return tensor
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(tensor, torch.Tensor):
            if tensor.is_meta or tensor.layout != torch.strided or tensor.is_quantized:
                kind = "meta" if tensor.is_meta else str(tensor.layout)
                raise TypeError(f"{name} is a {kind} tensor, expected one with plain dense values")
            tensor = tensor.detach().cpu()
            if tensor.dtype == torch.bfloat16:
                return cls("BF16", np.asarray(tensor.contiguous().view(torch.uint16).numpy()))
            if str(tensor.dtype).removeprefix("torch.") not in _TORCH.values():
                raise TypeError(
                    f"{name} has dtype {tensor.dtype}, expected one of {', '.join(_NUMPY)}: "
                    "convert it to float16 or bfloat16 first"
                )
            tensor = tensor.contiguous().numpy()
        if not isinstance(tensor, np.ndarray):
            kind = type(tensor).__name__
            raise TypeError(f"{name} is a {kind}, expected a torch tensor or numpy array")
        dtype = _NAMES.get(tensor.dtype)
        if dtype is None:
            given = shown(str(tensor.dtype))
            raise TypeError(f"{name} has dtype {given}, expected one of {sorted(_NUMPY)}")
        # ascontiguousarray makes a scalar one-dimensional.
        return cls(dtype, np.ascontiguousarray(tensor).reshape(tensor.shape))

    @classmethod
    def from_bytes(cls, dtype: str, shape: tuple[int, ...], data: NDArray[np.uint8]) -> "RawTensor":
        """Copy bytes, so that the elements are aligned.

        Raises:
            TypeError: If adapters do not have the dtype.
        """
        return cls(dtype, data.copy().view(element(dtype)).reshape(shape))

    @classmethod
    def rounded(cls, values: NDArray[np.float32], dtype: str) -> "RawTensor":
        """Round float32 values to F32, F16 or BF16: to the nearest, and ties to even."""
        if dtype == "F32":
            return cls("F32", values)
        if dtype == "F16":
            return cls("F16", values.astype(np.float16))
        bits = values.view(np.uint32)
        # Add half of the part that is cut off, less one where the part that stays is even.
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        return cls("BF16", np.asarray(rounded).astype(np.uint16))

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return self.data.shape

    @property
    def bytes(self) -> NDArray[np.uint8]:
        """A view of its elements as bytes."""
        return self.data.reshape(-1).view(np.uint8)

    @property
    def is_float(self) -> bool:
        """Whether it can be made ternary: float32, float16 or bfloat16."""
        return self.dtype in ("F32", "F16", "BF16")

    def float32(self) -> NDArray[np.float32]:
        """The exact values in float32; a view if they have that dtype already."""
        if self.dtype == "BF16":
            # Arithmetic turns a 0-d array into a scalar.
            return np.asarray(self.data.astype(np.uint32) << 16).view(np.float32)
        return self.data.astype(np.float32, copy=False)

    def numpy(self) -> NDArray[Any]:
        """The tensor as a numpy array; bfloat16 becomes float32."""
        return self.float32() if self.dtype == "BF16" else self.data

    def torch(self) -> "torch.Tensor":
        """The tensor as a torch tensor on the same memory."""
        import torch

        tensor = torch.from_numpy(self.data)
        return tensor.view(torch.bfloat16) if self.dtype == "BF16" else tensor


class StateDict(dict[str, _T]):
    """The tensors of a file by name, and the text that the file carries beside them.

    Readers other than this package take scalings, ranks and the meaning of tensors from that text
    (diffusers, kohya's and cloneofsimo's tools), so it goes wherever the tensors go. Nothing here
    relies on it.

    Attributes:
        metadata: `__metadata__` of a safetensors file; {} where it only says, as every file of
            torch tensors does, `{"format": "pt"}`.

    Example:
        >>> StateDict({"w": 1}, {"format": "pt"}).metadata
        {}
        >>> StateDict({"w": 1}, {"format": "pt", "ss_network_dim": "4"}).metadata
        {'format': 'pt', 'ss_network_dim': '4'}
    """

    def __init__(self, tensors: Mapping[str, _T], metadata: Mapping[str, str]) -> None:
        super().__init__(tensors)
        self.metadata = {} if metadata == PLAIN_METADATA else dict(metadata)


def element(dtype: str, owner: str = "a tensor") -> np.dtype[Any]:
    """The numpy dtype of an element; bfloat16 elements are held as their bits.

    Args:
        dtype: The name of its dtype in safetensors.
        owner: The tensor and its file, for messages.

    Raises:
        TypeError: If adapters do not have the dtype.

    Example:
        >>> element("BF16")
        dtype('uint16')
    """
    if dtype not in _NUMPY:
        raise TypeError(
            f"{owner} has dtype {dtype}, expected one of {', '.join(_NUMPY)}: convert it to "
            "float16 or bfloat16 first"
        )
    return _NUMPY[dtype]


def dtype_name(dtype: Any) -> str:
    """The safetensors name of a float dtype given as a numpy or torch dtype, or a string.

    Raises:
        TypeError: If it is not float32, float16 or bfloat16.

    Example:
        >>> dtype_name(np.float16)
        'F16'
    """
    text = str(dtype).removeprefix("torch.")
    names = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
    if text not in names:
        text = numpy_name(dtype, "float32, float16 or bfloat16")
    if text not in names:
        raise TypeError(f"dtype is {shown(dtype)}, expected float32, float16 or bfloat16")
    return names[text]
