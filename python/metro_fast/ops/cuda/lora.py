"""Packed LoRA experts applied to a batch as they are. Not yet run on a GPU: see docs/cuda.md."""

from collections.abc import Sequence
from ctypes import c_uint32
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metro_fast._extras import require
from metro_fast.errors import MetroFastError
from metro_fast.ops.cuda import kernels
from metro_fast.ops.cuda.flags import flags_of

__all__ = ["LoraTable", "TernaryLora", "apply_lora"]

MAX_RANK = 512
ENTRY = np.dtype(
    [("planes", "<u8", 4), ("a_scale", "<f4"), ("b_scale", "<f4"), ("rank", "<u4"), ("zero", "<u4")]
)


class TernaryLora(NamedTuple):
    """An expert's update of one linear layer: `a_scale * b_scale * b @ a`.

    Attributes:
        a: int8 [rank, in], trits.
        b: int8 [out, rank], trits.
        a_scale: What a trit of `a` is worth.
        b_scale: What a trit of `b` is worth, LoRA's own scaling included.
    """

    a: NDArray[np.int8]
    b: NDArray[np.int8]
    a_scale: float
    b_scale: float


class LoraTable:
    """Experts of one layer on a device: two bits a parameter.

    Args:
        experts: Of any ranks up to 512, all of one layer.
        device: A `torch.device`, or what makes one.

    Attributes:
        width: The layer's inputs and outputs.

    Raises:
        MetroFastError: If shapes do not fit, or a rank is too large.

    Example:
        >>> one = TernaryLora(np.ones((2, 4), np.int8), np.ones((3, 2), np.int8), 0.5, 0.5)
        >>> LoraTable([one], "cpu").width
        (4, 3)
    """

    def __init__(self, experts: Sequence[TernaryLora], device: Any) -> None:
        torch = require("torch", "torch")
        if not experts:
            raise MetroFastError("a table without experts")
        self.width = (experts[0].a.shape[1], experts[0].b.shape[0])
        parts: list[NDArray[np.uint32]] = []
        for number, expert in enumerate(experts):
            rank, outs = len(expert.a), len(expert.b)
            if (expert.a.shape[1], outs) != self.width or expert.b.shape[1] != rank:
                raise MetroFastError(
                    f"expert {number} has shapes {expert.a.shape} and {expert.b.shape}, expected "
                    f"[rank, {self.width[0]}] and [{self.width[1]}, rank]"
                )
            if not 1 <= rank <= MAX_RANK:
                raise MetroFastError(f"expert {number} has rank {rank}, expected 1 to {MAX_RANK}")
            parts += [*bit_planes(expert.a), *bit_planes(expert.b)]
        starts = np.cumsum([0, *(4 * part.size for part in parts)])
        flat = np.concatenate([part.reshape(-1) for part in parts])
        self.planes = torch.from_numpy(flat.view(np.int32)).to(device)
        base = self.planes.data_ptr()
        entries = np.zeros(len(experts), ENTRY)
        for i, expert in enumerate(experts):
            places = base + starts[4 * i : 4 * i + 4]
            entries[i] = (places, expert.a_scale, expert.b_scale, len(expert.a), 0)
        self.entries = torch.from_numpy(entries.view(np.uint8)).to(device)
        self.count = len(experts)


def apply_lora(x: Any, y: Any, expert_of_row: Any, table: LoraTable) -> None:
    """Add each row's expert to it: `y[i] += update(expert_of_row[i]) @ x[i]`.

    For small batches, where reading the experts is what takes time. Sums are float32 in an order
    that depends on the layer's inputs and the rank alone, and the sum with `y` is rounded once.

    Args:
        x: float32, float16 or bfloat16 [rows, in] on the device, contiguous.
        y: [rows, out], of the same dtype, contiguous; changed.
        expert_of_row: int32 [rows] on the device: numbers of the table, -1 for none.
        table: The layer's experts.

    Raises:
        TypeError: If a dtype or layout is another.
        MetroFastError: If shapes do not fit, or a number is not in the table; with its row.
        CudaError: If CUDA is missing or refuses.
    """
    name = kernels.format_of("x", x)
    dtype = kernels.dtype_of(x)
    rows = len(x)
    for label, tensor, kind in (("x", x, dtype), ("y", y, dtype), ("rows", expert_of_row, "int32")):
        kernels.dense(label, tensor, kind, x.device)
    shapes = (tuple(x.shape), tuple(y.shape), tuple(expert_of_row.shape))
    if shapes != ((rows, table.width[0]), (rows, table.width[1]), (rows,)):
        raise MetroFastError(
            f"x, y and expert_of_row have shapes {shapes}, expected those of {rows} rows of a "
            f"layer of {table.width}"
        )
    if rows == 0:
        return
    arguments = [x, y, c_uint32(rows), c_uint32(table.width[0]), c_uint32(table.width[1])]
    arguments += [expert_of_row, table.entries, c_uint32(table.count), flags_of(x.device)]
    kernels.launch_on("apply_lora.cu", f"apply_lora_{name}", arguments, on=x, grid=rows, block=256)
    kernels.check(x.device)


def bit_planes(trits: NDArray[np.int8]) -> list[NDArray[np.uint32]]:
    """Which trits are not zero and which are negative, each row in whole words."""
    rows, columns = trits.shape
    padded = np.zeros((rows, -(-columns // 32) * 32), np.int8)
    padded[:, :columns] = trits
    return [
        np.packbits(plane, axis=1, bitorder="little").view(np.uint32)
        for plane in (padded != 0, padded < 0)
    ]
