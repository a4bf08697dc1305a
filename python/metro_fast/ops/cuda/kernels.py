"""The kernels on CUDA tensors: shapes checked, outputs made by torch, one launch each.

Equal to the CPU's bit for bit (the sampler: for equal logits). Not yet run on a GPU: what the tests
run is this code and the kernels' unchanged text on the CPU.
"""

from ctypes import c_float, c_int64, c_uint32, c_uint64
from functools import cache
from typing import Any

import numpy as np

from metro_fast import _core
from metro_fast._extras import require
from metro_fast.errors import MetroFastError
from metro_fast.ops.cuda import launch
from metro_fast.ops.cuda.flags import flags_of, is_later, raise_flagged
from metro_fast.ops.ternarize import check_scale

__all__ = ["replaced_token_labels", "sample_replacements", "unpack_into", "unpack_pieces"]

LEAST_STREAM = 64 * 512
"""Trits of a stream at the smallest S: how many streams a block may have."""

FORMATS = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
_STATIC_SHARED = 1024
_MAX_VOCABULARY = 1 << 23


def unpack_into(packed: Any, scale: float, out: Any) -> None:
    """Decode a block into a CUDA tensor: `scale * trits`, rounded to nearest even.

    Args:
        packed: uint8 [n] on the device, contiguous, at a multiple of 16 bytes.
        scale: What each trit is multiplied with.
        out: float32, float16 or bfloat16 [count], contiguous.

    Raises:
        TypeError: If a dtype or layout is another.
        FormatError: If the block is damaged; `out` may have been written in part.
        MetroFastError: If it holds another number of trits, or the scale does not fit.
        CudaError: If CUDA is missing or refuses.
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
        # An empty block has a header to look at too.
        grid=max(1, -(-works // 4)),
        block=128,
    )
    check(packed.device)


def unpack_pieces(blocks: Any, segments: Any, works: Any, streams: int, dtype: Any) -> None:
    """Decode pieces of blocks to where the tables say, without waiting; see `pieces`.

    Args:
        blocks: uint8 on the device: address and length of each block, 16 bytes.
        segments: uint8 on the device.
        works: uint8 on the device.
        streams: How many works there are.
        dtype: Of all outputs: float32, float16 or bfloat16.

    Raises:
        CudaError: If CUDA is missing or refuses. Damage is flagged: `raise_flagged` tells.
    """
    name = FORMATS[str(dtype).removeprefix("torch.")]
    arguments = [blocks, segments, works, c_uint32(streams), flags_of(blocks.device)]
    if streams:
        grid = -(-streams // 4)
        launch_on("unpack.cu", f"unpack_{name}", arguments, on=blocks, grid=grid, block=128)


def sample_replacements(
    logits: Any, seed_epoch: Any, sample_ids: Any, positions: Any, temperature: float
) -> Any:
    """Draw one token a row from `softmax(logits / temperature)`, as the CPU draws it.

    Args:
        logits: float32, float16 or bfloat16 [R, V]; rows may lie apart, a row is contiguous.
        seed_epoch: int64 [2] on the device: a captured graph draws anew when they are changed.
        sample_ids: int64 [R] on the device, or None for the index of the row.
        positions: int64 [R] on the device, or None for 0.
        temperature: 1e-6 to 1e6.

    Returns:
        int64 [R]; -1 where a row was bad, which a captured graph does not raise.

    Raises:
        TypeError: If a dtype or layout is another.
        MetroFastError: If a value is outside its domain; with its row.
        CudaError: If CUDA is missing or refuses.
    """
    torch = require("torch", "torch")
    name = format_of("logits", logits)
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
    _sized("seed_epoch", seed_epoch, 2, logits.device)
    for label, values in (("sample_ids", sample_ids), ("positions", positions)):
        if values is not None:
            _sized(label, values, rows, logits.device)
    out = torch.empty(rows, dtype=torch.int64, device=logits.device)
    if rows == 0:
        return out
    row_bytes = vocabulary * logits.element_size()
    fits = row_bytes <= _shared_bytes(logits.device) - _STATIC_SHARED
    # As rust/core/src/replace/exp2.rs: rounded to float32, then times an exact power of two.
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
            c_uint32(row_bytes if fits else 0),
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


def replaced_token_labels(
    original: Any, sampled: Any, masked_positions: Any, pad_token_id: int
) -> tuple[Any, Any]:
    """Put sampled tokens into the original, and label what they changed.

    Args:
        original: int64, contiguous, of any shape; negative at padding.
        sampled: int64 [M] on the device.
        masked_positions: int64 [M] on the device: flat indices, strictly ascending.
        pad_token_id: Id of the padding of the input.

    Returns:
        int64 and int8 tensors of the shape of `original`: input ids and labels.

    Raises:
        TypeError: If a dtype or layout is another.
        MetroFastError: If sizes or values do not fit; with the index.
        CudaError: If CUDA is missing or refuses.
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
        ids = [c_int64(pad_token_id), input_ids, labels]
        filled = [original, c_uint64(size), *ids]
        _labels("fill", filled, size, on=original)
    if count:
        placed = [original, c_uint64(size), sampled, masked_positions, c_uint64(count)]
        _labels("scatter", [*placed, input_ids, labels, flags_of(device)], count, on=original)
    check(device)
    return input_ids, labels


def _labels(step: str, arguments: list[Any], threads: int, *, on: Any) -> None:
    kernel = f"replaced_token_labels_{step}"
    source = "replaced_token_labels.cu"
    launch_on(source, kernel, arguments, on=on, grid=-(-threads // 256), block=256)


def launch_on(
    source: str,
    kernel: str,
    arguments: list[Any],
    *,
    on: Any,
    grid: int,
    block: int,
    shared_bytes: int = 0,
) -> None:
    """Launch on the current stream of a tensor's device."""
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


def check(device: Any) -> None:
    """Wait, and raise what was found, unless in a CUDA graph or a block of `check_once`."""
    torch = require("torch", "torch")
    if is_later():
        return
    if device.type != "cuda" or not torch.cuda.is_current_stream_capturing():
        raise_flagged(device)


@cache
def _shared_bytes(device: Any) -> int:
    """Dynamic shared memory that a block of a device may have; the driver is asked once."""
    index: int = device.index
    return _core.cuda_devices()[1][index][3]


def dtype_of(tensor: Any) -> str:
    """The name of a tensor's dtype: `"float32"`."""
    return str(tensor.dtype).removeprefix("torch.")


def format_of(name: str, tensor: Any) -> str:
    """How kernels call a tensor's dtype.

    Raises:
        TypeError: If there are none for it.
    """
    dtype = dtype_of(tensor)
    if dtype not in FORMATS:
        raise TypeError(f"{name} has dtype {dtype} on CUDA, expected one of {', '.join(FORMATS)}")
    return FORMATS[dtype]


def dense(name: str, tensor: Any, dtype: str, device: Any) -> Any:
    """The tensor, which must have a dtype, be on a device, and be contiguous.

    Raises:
        TypeError: If it is not so.
    """
    found = dtype_of(tensor)
    if found != dtype or tensor.device != device or not tensor.is_contiguous():
        layout = "contiguous" if tensor.is_contiguous() else "not contiguous"
        raise TypeError(
            f"{name} is {found} on {tensor.device} and {layout}, expected contiguous {dtype} on "
            f"{device}"
        )
    return tensor


def _sized(name: str, tensor: Any, count: int, device: Any) -> None:
    dense(name, tensor, "int64", device)
    if tensor.ndim != 1 or tensor.numel() != count:
        raise MetroFastError(f"{name} has shape {tuple(tensor.shape)}, expected ({count},)")
