"""The two ops behind `linear_cross_entropy_sample`, which visit the logits tile by tile.

For each tile of the vocabulary the logits of some rows are computed, by torch's own matrix product,
and everything that is needed of them is taken while they are in the cache. The backward pass
computes them again. Both need memory for one tile, [1024, 2048], and not for [rows, vocabulary].
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from metro_fast import _core
from metro_fast.ops.draws import check_counter, resolve_threads

ROWS, TILE = 1024, 2048
"""Rows and tokens of a tile: 8 MiB in float32. The tokens are part of the definition of a draw."""

_GRAIN = 1 << 16
"""Number of logits that one thread weighs in about 0.03 ms."""


@torch.library.custom_op(
    "metro_fast::linear_cross_entropy_sample", mutates_args=(), device_types="cpu"
)
def head_op(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None,
    row_weights: Tensor | None,
    label_smoothing: float,
    softcap: float | None,
    z_loss: float,
    scale: float,
    seed_epoch: Tensor | None,
    sample_ids: Tensor | None,
    positions: Tensor | None,
    temperature: float,
    forbidden: Tensor | None,
    exclude_targets: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See `linear_cross_entropy_sample`: loss, logsumexp, hits, and the drawn tokens or none."""
    rows, vocabulary = len(hidden), len(weight)
    kind = _kind(hidden)
    # Logsumexp, the target's logit and the sum of the logits of each row.
    found = [torch.full((rows,), start, dtype=torch.float64) for start in (-torch.inf, 0.0, 0.0)]
    best, drawn = (torch.empty(rows, dtype=torch.int64) for _ in range(2))
    scaled = hidden * scale if scale != 1.0 else hidden
    never = np.empty(0, np.int64) if forbidden is None else np.unique(forbidden.numpy())
    for part in _slices(rows, ROWS):
        count = part.stop - part.start
        sweep = _core.Sweep(targets[part].contiguous().numpy(), vocabulary)
        if seed_epoch is not None:
            seed, epoch = seed_epoch.tolist()
            ids = torch.arange(part.start, part.stop) if sample_ids is None else sample_ids[part]
            places = targets.new_zeros(count) if positions is None else positions[part]
            sweep.draw(
                ids.contiguous().numpy(),
                places.contiguous().numpy(),
                seed=check_counter("seed", seed),
                epoch=check_counter("epoch", epoch),
                temperature=temperature,
                forbidden=never,
                exclude_targets=exclude_targets,
                vocabulary=vocabulary,
            )
        room = hidden.new_empty(count * min(TILE, vocabulary), dtype=kind)
        for tile in _slices(vocabulary, TILE):
            logits = _logits(scaled[part], weight, bias, softcap, tile, room)
            threads = resolve_threads(None, logits.numel(), _GRAIN)
            sweep.add(logits.float().numpy(), tile.start, threads)
            if kind == torch.float64:
                _add_double(logits, targets[part], tile, [each[part] for each in found])
        numbers = [torch.from_numpy(each) for each in sweep.finish(part.start)]
        best[part], drawn[part] = numbers[3], numbers[4]
        for to, number in zip(found, numbers[:3], strict=True):
            to[part] = to[part] if kind == torch.float64 else number
    logsumexp = found[0]
    share = _share(label_smoothing, vocabulary)
    loss = logsumexp - (1 - label_smoothing - share) * found[1] - share * found[2]
    loss += z_loss * logsumexp**2
    loss *= 1.0 if row_weights is None else row_weights
    sampled = drawn if seed_epoch is not None else drawn[:0].clone()
    return loss.to(kind), logsumexp.to(kind), best == targets, sampled


@head_op.register_fake
def _(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None,
    row_weights: Tensor | None,
    label_smoothing: float,
    softcap: float | None,
    z_loss: float,
    scale: float,
    seed_epoch: Tensor | None,
    sample_ids: Tensor | None,
    positions: Tensor | None,
    temperature: float,
    forbidden: Tensor | None,
    exclude_targets: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows, kind = hidden.shape[0], _kind(hidden)
    return (
        hidden.new_empty(rows, dtype=kind),
        hidden.new_empty(rows, dtype=kind),
        targets.new_empty(rows, dtype=torch.bool),
        targets.new_empty(0 if seed_epoch is None else rows),
    )


@torch.library.custom_op(
    "metro_fast::linear_cross_entropy_grad", mutates_args=(), device_types="cpu"
)
def _grad_op(
    grad_loss: Tensor,
    grad_logsumexp: Tensor,
    logsumexp: Tensor,
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None,
    row_weights: Tensor | None,
    label_smoothing: float,
    softcap: float | None,
    z_loss: float,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    rows, vocabulary, kind = len(hidden), len(weight), _kind(hidden)
    factor = grad_loss if row_weights is None else grad_loss * row_weights
    share = _share(label_smoothing, vocabulary)
    # The gradient of a logit is `every` times its probability, less `share` times the factor, less
    # `hit` at the target.
    every = (factor * (1 + 2 * z_loss * logsumexp) + grad_logsumexp).to(kind)
    hit = (factor * (1 - label_smoothing - share)).to(kind)
    spread = (factor * share).to(kind)
    scaled = hidden * scale if scale != 1.0 else hidden
    grad_hidden = hidden.new_zeros(hidden.shape, dtype=kind)
    grad_weight = weight.new_zeros(weight.shape, dtype=kind)
    grad_bias = weight.new_zeros(0 if bias is None else vocabulary, dtype=kind)
    room = hidden.new_empty(min(rows, ROWS) * min(TILE, vocabulary), dtype=kind)
    for tile in _slices(vocabulary, TILE):
        for part in _slices(rows, ROWS):
            logits = _logits(scaled[part], weight, bias, softcap, tile, room)
            slope = None if softcap is None else 1 - (logits / softcap) ** 2
            grad = logits.sub_(logsumexp[part, None]).exp_().mul_(every[part, None])
            if label_smoothing:
                grad -= spread[part, None]
            inside = (targets[part] >= tile.start) & (targets[part] < tile.stop)
            at = inside.nonzero()[:, 0]
            grad[at, targets[part][at] - tile.start] -= hit[part][at]
            if slope is not None:
                grad *= slope
            if bias is not None:
                grad_bias[tile] += grad.sum(0)
            _add_product(grad_hidden[part], grad, weight[tile])
            _add_product(grad_weight[tile], grad.t(), scaled[part])
    dtype = hidden.dtype
    return grad_hidden.mul_(scale).to(dtype), grad_weight.to(dtype), grad_bias.to(dtype)


@_grad_op.register_fake
def _(
    grad_loss: Tensor,
    grad_logsumexp: Tensor,
    logsumexp: Tensor,
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None,
    row_weights: Tensor | None,
    label_smoothing: float,
    softcap: float | None,
    z_loss: float,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    count = 0 if bias is None else weight.shape[0]
    return torch.empty_like(hidden), torch.empty_like(weight), weight.new_empty(count)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    hidden, weight, targets, bias, row_weights, *numbers = inputs
    ctx.save_for_backward(output[1], hidden, weight, targets, bias, row_weights)
    ctx.numbers = numbers[:4]


def _backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    logsumexp, hidden, weight, targets, bias, row_weights = ctx.saved_tensors
    found = _grad_op(
        grads[0], grads[1], logsumexp, hidden, weight, targets, bias, row_weights, *ctx.numbers
    )
    grad_bias = None if bias is None else found[2]
    return found[0], found[1], None, grad_bias, *(None,) * 11


head_op.register_autograd(_backward, setup_context=_save)


@register_flop_formula(torch.ops.metro_fast.linear_cross_entropy_sample)
def _flops(hidden: torch.Size, weight: torch.Size, *_: Any, **__: Any) -> int:
    """One product, as of a linear layer."""
    return 2 * hidden[0] * hidden[1] * weight[0]


@register_flop_formula(torch.ops.metro_fast.linear_cross_entropy_grad)
def _grad_flops(
    _loss: Any,
    _sum: Any,
    _logsumexp: Any,
    hidden: torch.Size,
    weight: torch.Size,
    *_: Any,
    **__: Any,
) -> int:
    """Three: the logits again, and the gradients of both factors."""
    return 6 * hidden[0] * hidden[1] * weight[0]


def _share(label_smoothing: float, vocabulary: int) -> float:
    """The smoothed target's share of each other token."""
    return label_smoothing / (vocabulary - 1) if label_smoothing else 0.0


def _kind(hidden: Tensor) -> torch.dtype:
    """The dtype of sums: float32, and float64 of float64."""
    return torch.float64 if hidden.dtype == torch.float64 else torch.float32


def _slices(length: int, size: int) -> Iterator[slice]:
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def _logits(
    rows: Tensor, weight: Tensor, bias: Tensor | None, softcap: float | None, tile: slice,
    room: Tensor,
) -> Tensor:  # fmt: skip
    """Compute a tile of logits in `room`."""
    logits = room[: len(rows) * (tile.stop - tile.start)].view(len(rows), -1)
    if rows.dtype == logits.dtype:
        torch.mm(rows, weight[tile].t(), out=logits)
    else:
        logits.copy_(rows @ weight[tile].t())
    if bias is not None:
        logits += bias[tile]
    if softcap is not None:
        logits.div_(softcap).tanh_().mul_(softcap)
    return logits


def _add_product(to: Tensor, left: Tensor, right: Tensor) -> None:
    if left.dtype == right.dtype:
        to.addmm_(left, right)
    else:
        to += left.to(right.dtype) @ right


def _add_double(logits: Tensor, targets: Tensor, tile: slice, found: list[Tensor]) -> None:
    """Add a tile to the logsumexp, the target's logit and the sum of logits in float64."""
    logsumexp, target, total = found
    logsumexp.copy_(torch.logaddexp(logsumexp, logits.logsumexp(-1)))
    at = ((targets >= tile.start) & (targets < tile.stop)).nonzero()[:, 0]
    target[at] = logits[at, targets[at] - tile.start]
    total += logits.sum(-1)
