"""The backward pass of the fused head: each tile of logits is computed again."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from metro_fast.ops.head_tiles import (
    ROWS,
    TILE,
    head_op,
    kind_of,
    share_of,
    slices,
    tile_logits,
)

__all__ = ["head_op"]


@torch.library.custom_op(
    "metro_fast::linear_cross_entropy_grad", mutates_args=(), device_types=("cpu", "cuda")
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
    rows, vocabulary, kind = len(hidden), len(weight), kind_of(hidden)
    factor = grad_loss if row_weights is None else grad_loss * row_weights
    share = share_of(label_smoothing, vocabulary)
    # The gradient of a logit is `every` times its probability, less `share` times the factor, less
    # `hit` at the target.
    every = (factor * (1 + 2 * z_loss * logsumexp) + grad_logsumexp).to(kind)
    hit = (factor * (1 - label_smoothing - share)).to(kind)
    spread = (factor * share).to(kind)
    scaled = hidden * scale if scale != 1.0 else hidden
    grad_hidden = hidden.new_zeros(hidden.shape, dtype=kind)
    grad_weight = weight.new_zeros(weight.shape, dtype=kind)
    grad_bias = weight.new_zeros(0 if bias is None else vocabulary, dtype=kind)
    # A GPU needs more rows at a time to be busy: 128 MiB of logits.
    most_rows, most_tokens = (ROWS, TILE) if hidden.device.type == "cpu" else (8192, 4096)
    room = hidden.new_empty(min(rows, most_rows) * min(most_tokens, vocabulary), dtype=kind)
    for tile in slices(vocabulary, most_tokens):
        for part in slices(rows, most_rows):
            logits = tile_logits(scaled[part], weight, bias, softcap, tile, room)
            slope = None if softcap is None else 1 - (logits / softcap) ** 2
            grad = logits.sub_(logsumexp[part, None]).exp_().mul_(every[part, None])
            if label_smoothing:
                grad -= spread[part, None]
            # Without indices of the rows inside, for which a GPU would be waited for.
            place = targets[part] - tile.start
            outside = (place < 0) | (place >= grad.shape[1])
            place = place.clamp(0, grad.shape[1] - 1)
            grad.scatter_add_(1, place[:, None], -hit[part].masked_fill(outside, 0)[:, None])
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


def _add_product(to: Tensor, left: Tensor, right: Tensor) -> None:
    if left.dtype == right.dtype:
        to.addmm_(left, right)
    else:
        to += left.to(right.dtype) @ right
