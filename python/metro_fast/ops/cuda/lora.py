"""Apply packed LoRA experts without decoding them. Not yet run on a GPU: see docs/cuda.md."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import c_uint32
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metro_fast._extras import require
from metro_fast.errors import MetroFastError
from metro_fast.ops.cuda import kernels
from metro_fast.ops.cuda.flags import flags_of
from metro_fast.ops.cuda.launch import Argument

if TYPE_CHECKING:
    import torch

__all__ = ["LoraTable", "TernaryLora", "apply_lora"]

MAX_RANK = 512
ENTRY = np.dtype(
    [("planes", "<u8", 4), ("a_scale", "<f4"), ("b_scale", "<f4"), ("rank", "<u4"), ("zero", "<u4")]
)


class TernaryLora(NamedTuple):
    """The update of one linear layer by an expert: `a_scale * b_scale * b @ a`.

    Attributes:
        a: int8 [rank, in], trits.
        b: int8 [out, rank], trits.
        a_scale: The factor of the trits of `a`.
        b_scale: The factor of the trits of `b`, which includes the scaling of LoRA.
    """

    a: NDArray[np.int8]
    b: NDArray[np.int8]
    a_scale: float
    b_scale: float

    def __repr__(self) -> str:
        (rank, inputs), outputs = self.a.shape, len(self.b)
        scale = self.a_scale * self.b_scale
        return f"<TernaryLora of rank {rank}, {inputs} to {outputs}, scale {scale:g}>"


class LoraTable:
    """The experts of one layer on a device, with two bits per parameter.

    Args:
        experts: The updates of one layer, of any ranks up to 512.
        device: A `torch.device` or its name.

    Attributes:
        width: The number of inputs and of outputs of the layer.
        count: The number of experts.

    Raises:
        MetroFastError: If the shapes do not match, or a rank is too large.

    Example:
        >>> one = TernaryLora(np.ones((2, 4), np.int8), np.ones((3, 2), np.int8), 0.5, 0.5)
        >>> one
        <TernaryLora of rank 2, 4 to 3, scale 0.25>
        >>> LoraTable([one], "cpu")
        <LoraTable of 1 experts, 4 to 3, on cpu>
    """

    def __init__(self, experts: Sequence[TernaryLora], device: torch.device | str) -> None:
        torch = require("torch", "torch")
        if not experts:
            raise MetroFastError("the table is without experts, expected at least one")
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

    def __repr__(self) -> str:
        inputs, outputs = self.width
        device = self.planes.device
        return f"<LoraTable of {self.count} experts, {inputs} to {outputs}, on {device}>"


def apply_lora(
    x: torch.Tensor, y: torch.Tensor, expert_of_row: torch.Tensor, table: LoraTable
) -> None:
    """Add the update of each row's expert: `y[i] += update(expert_of_row[i]) @ x[i]`.

    This is meant for small batches, where most of the time is spent reading the experts. Sums are
    float32 in an order that depends only on the inputs of the layer and the rank, and the sum with
    `y` is rounded once.

    Args:
        x: float32, float16 or bfloat16 [rows, in] on the device, contiguous.
        y: [rows, out] of the same dtype, contiguous; it is changed in place.
        expert_of_row: int32 [rows] on the device: the number of an expert in the table, or -1 for
            no expert.
        table: The experts of the layer.

    Raises:
        TypeError: If a dtype or layout is not supported.
        MetroFastError: If the shapes do not match, or a number is not in the table; the message
            gives the row.
        CudaError: If CUDA is missing or a call fails.
    """
    name = kernels.format_of("x", x)
    dtype = kernels.dtype_of(x)
    rows = len(x)
    arrays = (("x", x, dtype), ("y", y, dtype), ("expert_of_row", expert_of_row, "int32"))
    for label, tensor, wanted in arrays:
        kernels.dense(label, tensor, wanted, x.device)
    shapes = (tuple(x.shape), tuple(y.shape), tuple(expert_of_row.shape))
    if shapes != ((rows, table.width[0]), (rows, table.width[1]), (rows,)):
        raise MetroFastError(
            f"x, y and expert_of_row have shapes {shapes}, expected {rows} rows for a layer with "
            f"{table.width[0]} inputs and {table.width[1]} outputs"
        )
    if rows == 0:
        return
    arguments: list[Argument] = [
        x,
        y,
        c_uint32(rows),
        c_uint32(table.width[0]),
        c_uint32(table.width[1]),
    ]
    arguments += [expert_of_row, table.entries, c_uint32(table.count), flags_of(x.device)]
    kernels.launch_on("apply_lora.cu", f"apply_lora_{name}", arguments, on=x, grid=rows, block=256)
    kernels.check(x.device)


def bit_planes(trits: NDArray[np.int8]) -> list[NDArray[np.uint32]]:
    """Return the planes of nonzero and of negative trits, with each row padded to whole words."""
    rows, columns = trits.shape
    padded = np.zeros((rows, -(-columns // 32) * 32), np.int8)
    padded[:, :columns] = trits
    return [
        np.packbits(plane, axis=1, bitorder="little").view(np.uint32)
        for plane in (padded != 0, padded < 0)
    ]
