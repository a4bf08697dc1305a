"""The kernels for CUDA tensors: check shapes, allocate outputs with torch, and launch once.

Results equal those of the CPU bit for bit (for the sampler, given equal logits). Not yet run on a
GPU: the tests run this code and the unchanged text of the kernels on the CPU.
"""

from __future__ import annotations

from ctypes import c_float, c_int64, c_uint32, c_uint64
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from metro_fast import _core
from metro_fast._extras import require
from metro_fast.errors import MetroFastError
from metro_fast.ops.cuda import launch
from metro_fast.ops.cuda.flags import flags_of, is_later, raise_flagged
from metro_fast.ops.cuda.launch import Argument
from metro_fast.ops.ternarize import check_scale

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor

__all__ = ["replaced_token_labels", "sample_replacements", "unpack_into", "unpack_pieces"]

LEAST_STREAM = 64 * 512
"""Trits of a stream with the smallest S, which limits the number of streams of a block."""

FORMATS = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
_STATIC_SHARED = 2048
_MAX_VOCABULARY = 1 << 23


def unpack_into(packed: Tensor, scale: float, out: Tensor) -> None:
    """Decode a block into a CUDA tensor: `scale * trits`, rounded to nearest even.

    Args:
        packed: uint8 [n] on the device, contiguous. It is copied if its address is not a multiple
            of 16 bytes.
        scale: The factor of all trits.
        out: float32, float16 or bfloat16 [count], contiguous.

    Raises:
        TypeError: If a dtype or layout is not supported.
        FormatError: If the block is damaged; part of `out` may have been written.
        MetroFastError: If the block does not hold as many trits as `out`, or the scale is too large
            for the dtype.
        CudaError: If CUDA is missing or a call fails.
    """
    packed = dense("packed", packed, "uint8", packed.device)
    if packed.data_ptr() % 16 != 0:
        packed = packed.clone()
    kernel = f"unpack_flat_{format_of('out', out)}"
    dense("out", out, dtype_of(out), packed.device)
    check_scale(scale, dtype_of(out))
    works = -(-out.numel() // LEAST_STREAM)
    launch_on(
        "unpack.cu",
        kernel,
        [
            packed,
            c_uint64(packed.numel()),
            out,
            c_uint64(out.numel()),
            c_float(scale),
            c_uint32(0),
            c_uint32(works),
            flags_of(packed.device),
        ],
        on=packed,
        # The header of an empty block is checked too.
        grid=max(1, -(-works // 4)),
        block=128,
    )
    check(packed.device)


def unpack_pieces(
    blocks: Tensor,
    segments: Tensor,
    works: Tensor,
    streams: int,
    dtype: torch.dtype,
) -> None:
    """Decode pieces of blocks to the places that the tables of `pieces` give, without waiting.

    Args:
        blocks: uint8 on the device: address and length of each block, 16 bytes each.
        segments: uint8 on the device: the segments of `pieces.Tables`.
        works: uint8 on the device: the works of `pieces.Tables`.
        streams: Number of works.
        dtype: The dtype of all outputs: float32, float16 or bfloat16.

    Raises:
        CudaError: If CUDA is missing or a call fails. A damaged block is only flagged, and
            `raise_flagged` raises the error.
    """
    name = FORMATS[str(dtype).removeprefix("torch.")]
    arguments: list[Argument] = [blocks, segments, works]
    arguments += [c_uint32(streams), flags_of(blocks.device)]
    if streams:
        grid = -(-streams // 4)
        launch_on("unpack.cu", f"unpack_{name}", arguments, on=blocks, grid=grid, block=128)


def sample_replacements(
    logits: Tensor,
    seed_epoch: Tensor,
    sample_ids: Tensor | None,
    positions: Tensor | None,
    temperature: float,
    top_k: int | None = None,
    forbidden: Tensor | None = None,
    excluded: Tensor | None = None,
) -> Tensor:
    """Draw one token per row from `softmax(logits / temperature)`, the same as on the CPU.

    Args:
        logits: float32, float16 or bfloat16 [R, V]. Each row must be contiguous, but there may be
            gaps between rows.
        seed_epoch: int64 [2] on the device: a captured graph draws new tokens when they change.
        sample_ids: int64 [R] on the device, or None for the index of the row.
        positions: int64 [R] on the device, or None for 0.
        temperature: 1e-6 to 1e6.
        top_k: Number of likeliest tokens to draw from, or None for all.
        forbidden: int64 [F] on the device, tokens that no row draws, or None.
        excluded: int64 [R] on the device, a token for each row that it does not draw, or None.

    Returns:
        int64 [R], with -1 for rows with errors, which a captured graph does not raise.

    Raises:
        TypeError: If a dtype or layout is not supported.
        MetroFastError: If a value is outside its domain; the message gives its row.
        CudaError: If CUDA is missing or a call fails.
    """
    torch = require("torch", "torch")
    name = format_of("logits", logits)
    by_row = {"sample_ids": sample_ids, "positions": positions, "excluded": excluded}
    _check_sampling(logits, seed_epoch, by_row, forbidden, temperature, top_k)
    rows, vocabulary = logits.shape
    out: Tensor = torch.empty(rows, dtype=torch.int64, device=logits.device)
    if rows == 0:
        return out
    row_bytes = vocabulary * logits.element_size()
    fits = row_bytes <= _shared_bytes(logits.device) - _STATIC_SHARED
    # A row that is read again is kept in global memory if not all of its tokens may be drawn.
    count = 0 if forbidden is None else forbidden.numel()
    likeliest = top_k if top_k is not None and top_k < vocabulary else 0
    limited = count > 0 or excluded is not None or likeliest > 0
    scratch = None
    if limited and not fits:
        scratch = torch.empty((rows, vocabulary), dtype=logits.dtype, device=logits.device)
    # The same as in rust/core/src/softmax.rs: rounded to float32, then times a power of two.
    scale = float(np.float32(np.log2(np.e) / temperature)) * 2.0**25
    launch_on(
        "sample_replacements.cu",
        f"sample_replacements_{name}",
        [
            logits,
            c_uint64(logits.stride(0) if rows > 1 else vocabulary),
            c_uint32(vocabulary),
            c_uint32(rows),
            sample_ids,
            positions,
            seed_epoch,
            c_float(scale),
            forbidden if count else None,
            c_uint32(count),
            excluded,
            c_uint32(likeliest),
            c_uint32(row_bytes if fits else 0),
            scratch,
            out,
            flags_of(logits.device),
        ],
        on=logits,
        grid=rows,
        block=256,
        shared_bytes=row_bytes if fits else 0,
    )
    check(logits.device)
    return out


def _check_sampling(
    logits: Tensor,
    seed_epoch: Tensor,
    by_row: dict[str, Tensor | None],
    forbidden: Tensor | None,
    temperature: float,
    top_k: int | None,
) -> None:
    if logits.ndim != 2 or (logits.shape[1] > 1 and logits.stride(1) != 1):
        raise TypeError(
            f"logits has shape {tuple(logits.shape)} and strides {logits.stride()}, expected "
            "[rows, vocabulary] with contiguous rows"
        )
    rows, vocabulary = logits.shape
    if not 1 <= vocabulary <= _MAX_VOCABULARY:
        raise MetroFastError(f"logits.shape[1] is {vocabulary}, expected 1 to 2^23 tokens")
    if not 1e-6 <= temperature <= 1e6:
        raise MetroFastError(f"temperature is {temperature}, expected a number from 1e-6 to 1e6")
    if top_k is not None and top_k < 1:
        raise MetroFastError(f"top_k is {top_k}, expected 1 or more tokens")
    _sized("seed_epoch", seed_epoch, 2, logits.device)
    for label, values in by_row.items():
        if values is not None:
            _sized(label, values, rows, logits.device)
    if forbidden is not None:
        _sized("forbidden", forbidden, forbidden.numel(), logits.device)


def replaced_token_labels(
    original: Tensor,
    sampled: Tensor,
    masked_positions: Tensor,
    pad_token_id: int,
) -> tuple[Tensor, Tensor]:
    """Write sampled tokens over the original, and label the tokens that changed.

    Args:
        original: int64, contiguous, of any shape; negative at padding.
        sampled: int64 [M] on the device.
        masked_positions: int64 [M] on the device: flat indices in strictly ascending order.
        pad_token_id: Id that pads the input.

    Returns:
        Input ids (int64) and labels (int8), with the shape of `original`.

    Raises:
        TypeError: If a dtype or layout is not supported.
        MetroFastError: If sizes do not match or a value is outside its domain; the message gives
            its index.
        CudaError: If CUDA is missing or a call fails.
    """
    torch = require("torch", "torch")
    device = original.device
    original = dense("original", original, "int64", device)
    if pad_token_id < 0:
        raise MetroFastError(f"pad_token_id is {pad_token_id}, expected a token id, 0 or more")
    count = masked_positions.numel()
    _sized("masked_positions", masked_positions, count, device)
    _sized("sampled", sampled, count, device)
    input_ids, labels = torch.empty_like(original), torch.empty_like(original, dtype=torch.int8)
    size = original.numel()
    if size:
        outputs: list[Argument] = [c_int64(pad_token_id), input_ids, labels]
        _launch_labels("fill", [original, c_uint64(size), *outputs], size, on=original)
    if count:
        inputs: list[Argument] = [original, c_uint64(size), sampled, masked_positions]
        outputs = [c_uint64(count), input_ids, labels, flags_of(device)]
        _launch_labels("scatter", [*inputs, *outputs], count, on=original)
    check(device)
    return input_ids, labels


def _launch_labels(step: str, arguments: Sequence[Argument], threads: int, *, on: Tensor) -> None:
    kernel = f"replaced_token_labels_{step}"
    source = "replaced_token_labels.cu"
    launch_on(source, kernel, arguments, on=on, grid=-(-threads // 256), block=256)


def launch_on(
    source: str,
    kernel: str,
    arguments: Sequence[Argument],
    *,
    on: Tensor,
    grid: int,
    block: int,
    shared_bytes: int = 0,
) -> None:
    """Launch a kernel on the current stream of the device of the tensor `on`."""
    torch = require("torch", "torch")
    device = on.device.index
    launch.launch(
        source,
        kernel,
        arguments,
        device=device,
        stream=torch.cuda.current_stream(device).cuda_stream,
        grid=grid,
        block=block,
        shared_bytes=shared_bytes,
    )


def check(device: torch.device) -> None:
    """Wait and raise flagged errors, unless in a CUDA graph or a block of `check_once`."""
    torch = require("torch", "torch")
    if is_later():
        return
    if device.type != "cuda" or not torch.cuda.is_current_stream_capturing():
        raise_flagged(device)


@cache
def _shared_bytes(device: torch.device) -> int:
    """Return the most dynamic shared memory of a block; the driver is asked once per device."""
    return _core.cuda_devices()[1][device.index][3]


def dtype_of(tensor: Tensor) -> str:
    """Return the name of a tensor's dtype, for instance `"float32"`."""
    return str(tensor.dtype).removeprefix("torch.")


def format_of(name: str, tensor: Tensor) -> str:
    """Return the suffix of the kernels for a tensor's dtype.

    Raises:
        TypeError: If no kernel supports the dtype.
    """
    dtype = dtype_of(tensor)
    if dtype not in FORMATS:
        raise TypeError(f"{name} has dtype {dtype} on CUDA, expected one of {', '.join(FORMATS)}")
    return FORMATS[dtype]


def dense(name: str, tensor: Tensor, dtype: str, device: torch.device) -> Tensor:
    """Check that a tensor has a dtype, is on a device and is contiguous, and return it.

    Raises:
        TypeError: If it does not, or is not.
    """
    found = dtype_of(tensor)
    if found != dtype or tensor.device != device or not tensor.is_contiguous():
        layout = "contiguous" if tensor.is_contiguous() else "not contiguous"
        raise TypeError(
            f"{name} is {found} on {tensor.device} and {layout}, expected contiguous {dtype} on "
            f"{device}"
        )
    return tensor


def _sized(name: str, tensor: Tensor, count: int, device: torch.device) -> None:
    dense(name, tensor, "int64", device)
    if tensor.ndim != 1 or tensor.numel() != count:
        raise MetroFastError(f"{name} has shape {tuple(tensor.shape)}, expected ({count},)")
