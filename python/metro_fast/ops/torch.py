"""The ops that a model calls, registered with torch so that they can be traced and compiled.

`import metro_fast.ops.torch` defines `torch.ops.metro_fast.*`. Each op has a CPU kernel (the
function of the same name in `metro_fast.ops`), a CUDA kernel (in `cuda.kernels`; not yet run on a
GPU) and a fake kernel, so that `torch.compile` includes it in a graph without a graph break. Seed
and epoch are one int64 tensor, which a compiled or captured graph reads each time that it runs.

The data path (collators) is not registered: it calls the numpy functions directly.
"""

# ruff: noqa: E402
from metro_fast._extras import require

require("torch", "torch")

import torch
from torch import Tensor

from metro_fast.errors import MetroFastError
from metro_fast.ops.cuda import kernels
from metro_fast.ops.cuda.flags import check_once, raise_flagged
from metro_fast.ops.linear_cross_entropy_sample import HeadOutput, linear_cross_entropy_sample
from metro_fast.ops.replaced_token_labels import replaced_token_labels as _replaced_token_labels
from metro_fast.ops.sample_replacements import sample_replacements as _sample_replacements
from metro_fast.ops.unpack import unpack as _unpack

__all__ = [
    "HeadOutput",
    "check_once",
    "linear_cross_entropy_sample",
    "raise_flagged",
    "replaced_token_labels",
    "sample_replacements",
    "unpack",
    "unpack_out",
]


@torch.library.custom_op("metro_fast::sample_replacements", mutates_args=(), device_types="cpu")
def sample_replacements(
    logits: Tensor,
    seed_epoch: Tensor,
    sample_ids: Tensor | None = None,
    positions: Tensor | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    forbidden: Tensor | None = None,
    excluded: Tensor | None = None,
) -> Tensor:
    """Draw one token per row from `softmax(logits / temperature)`; see `ops.sample_replacements`.

    This is not differentiable: pass `logits.detach()`.

    Args:
        logits: float32, float16 or bfloat16 [R, V].
        seed_epoch: int64 [2], each 0 to 2^63 - 1, on the device of the logits, as are all tensors.
        sample_ids: int64 [R], 0 or more; None for the indices of the rows.
        positions: int64 [R], 0 to 2^32 - 1; None for 0.
        temperature: 1e-6 to 1e6.
        top_k: Number of likeliest tokens to draw from, or None for all.
        forbidden: int64 [F], tokens that no row draws, or None.
        excluded: int64 [R], a token for each row that it does not draw, or None.

    Returns:
        The drawn tokens, int64 [R].

    Raises:
        TypeError: If a dtype or layout is not supported.
        MetroFastError: If a value is outside its domain.

    Example:
        >>> logits = torch.tensor([[0.0, -torch.inf], [-torch.inf, 0.0]])
        >>> sample_replacements(logits, torch.tensor([0, 0])).tolist()
        [0, 1]
    """
    seed, epoch = _pair(seed_epoch)
    drawn: Tensor = _sample_replacements(
        logits.contiguous(),
        sample_ids=sample_ids,
        positions=positions,
        temperature=temperature,
        top_k=top_k,
        forbidden=forbidden,
        excluded=excluded,
        seed=seed,
        epoch=epoch,
    )
    return drawn


@sample_replacements.register_fake
def _(
    logits: Tensor,
    seed_epoch: Tensor,
    sample_ids: Tensor | None = None,
    positions: Tensor | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    forbidden: Tensor | None = None,
    excluded: Tensor | None = None,
) -> Tensor:
    return logits.new_empty(logits.shape[0], dtype=torch.int64)


sample_replacements.register_kernel("cuda")(kernels.sample_replacements)


@torch.library.custom_op("metro_fast::replaced_token_labels", mutates_args=(), device_types="cpu")
def replaced_token_labels(
    original: Tensor, sampled: Tensor, masked_positions: Tensor, pad_token_id: int = 0
) -> tuple[Tensor, Tensor]:
    """Make the input and labels of replaced-token detection; see `ops.replaced_token_labels`.

    Args:
        original: int64 of any shape, negative at padding.
        sampled: int64 [M].
        masked_positions: int64 [M]: flat indices in strictly ascending order.
        pad_token_id: Id that pads the input.

    Returns:
        Input ids (int64) and labels (int8): 1 for replaced tokens, 0 for original tokens, and -100
        at padding.

    Raises:
        TypeError: If a dtype is not supported.
        MetroFastError: If sizes do not match, or a value is outside its domain.

    Example:
        >>> original = torch.tensor([7, 8, 9, -100])
        >>> ids, labels = replaced_token_labels(original, torch.tensor([5]), torch.tensor([2]))
        >>> ids.tolist(), labels.tolist()
        ([7, 8, 5, 0], [0, 0, 1, -100])
    """
    batch = _replaced_token_labels(original, sampled, masked_positions, pad_token_id=pad_token_id)
    return batch.input_ids, batch.labels


@replaced_token_labels.register_fake
def _(
    original: Tensor, sampled: Tensor, masked_positions: Tensor, pad_token_id: int = 0
) -> tuple[Tensor, Tensor]:
    ids = torch.empty_like(original, memory_format=torch.contiguous_format)
    return ids, torch.empty_like(ids, dtype=torch.int8)


replaced_token_labels.register_kernel("cuda")(kernels.replaced_token_labels)


@torch.library.custom_op("metro_fast::unpack", mutates_args=(), device_types="cpu")
def unpack(
    packed: Tensor, count: int, scale: float = 1.0, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Decode a block that `ops.pack` made to `scale * trits`; see `ops.unpack`.

    Args:
        packed: uint8 [n].
        count: Number of trits in the block.
        scale: The factor of all trits.
        dtype: float32, float16 or bfloat16; on the CPU also int8.

    Returns:
        The values, [count].

    Raises:
        FormatError: If the block is damaged.
        MetroFastError: If the block holds a different number of trits.

    Example:
        >>> from metro_fast.ops import pack
        >>> unpack(pack(torch.tensor([0, -1, 1], dtype=torch.int8)), 3, 0.5, torch.bfloat16)
        tensor([ 0.0000, -0.5000,  0.5000], dtype=torch.bfloat16)
    """
    values: Tensor = _unpack(packed, count, scale=scale, dtype=dtype)
    return values


@unpack.register_fake
def _(packed: Tensor, count: int, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> Tensor:
    return packed.new_empty(count, dtype=dtype)


@unpack.register_kernel("cuda")
def _(packed: Tensor, count: int, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> Tensor:
    out = packed.new_empty(count, dtype=dtype)
    kernels.unpack_into(packed, scale, out)
    return out


@torch.library.custom_op("metro_fast::unpack_out", mutates_args=("out",), device_types="cpu")
def unpack_out(packed: Tensor, scale: float, out: Tensor) -> None:
    """Decode a block into a tensor; see `unpack`.

    Args:
        packed: uint8 [n].
        scale: The factor of all trits.
        out: [count], contiguous; the values are written in its dtype.

    Raises:
        FormatError: If the block is damaged.
        MetroFastError: If the block holds a different number of trits.

    Example:
        >>> from metro_fast.ops import pack
        >>> out = torch.empty(3)
        >>> unpack_out(pack(torch.tensor([0, -1, 1], dtype=torch.int8)), 2.0, out)
        >>> out.tolist()
        [0.0, -2.0, 2.0]
    """
    _unpack(packed, out.numel(), scale=scale, out=out)


@unpack_out.register_fake
def _(packed: Tensor, scale: float, out: Tensor) -> None:
    return None


unpack_out.register_kernel("cuda")(kernels.unpack_into)


def _pair(seed_epoch: Tensor) -> tuple[int, int]:
    if seed_epoch.dtype != torch.int64 or tuple(seed_epoch.shape) != (2,):
        raise MetroFastError(
            f"seed_epoch has dtype {seed_epoch.dtype} and shape {tuple(seed_epoch.shape)}, "
            "expected torch.int64 and (2,)"
        )
    seed, epoch = seed_epoch.tolist()
    return seed, epoch
