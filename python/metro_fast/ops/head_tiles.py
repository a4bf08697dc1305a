"""The op behind `linear_cross_entropy_sample`, which visits the logits tile by tile.

For each tile of the vocabulary the logits of some rows are computed, by torch's own matrix product,
and everything that is needed of them is taken while they are in the cache. The backward pass
(`head_gradient`) computes them again. Both need memory for one tile, [1024, 2048], and not for
[rows, vocabulary].
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
"""Rows and tokens of a tile: 8 MiB in float32. The tokens are a multiple of the 256 of a block."""

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
    kind = kind_of(hidden)
    # Logsumexp, the target's logit and the sum of the logits of each row.
    found = [torch.full((rows,), start, dtype=torch.float64) for start in (-torch.inf, 0.0, 0.0)]
    best, drawn = (torch.empty(rows, dtype=torch.int64) for _ in range(2))
    scaled = hidden * scale if scale != 1.0 else hidden
    never = np.empty(0, np.int64) if forbidden is None else np.unique(forbidden.numpy())
    for part in slices(rows, ROWS):
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
        for tile in slices(vocabulary, TILE):
            logits = tile_logits(scaled[part], weight, bias, softcap, tile, room)
            threads = resolve_threads(None, logits.numel(), _GRAIN)
            sweep.add(logits.float().numpy(), tile.start, threads)
            if kind == torch.float64:
                _add_double(logits, targets[part], tile, [each[part] for each in found])
        numbers = [torch.from_numpy(each) for each in sweep.finish(part.start)]
        best[part], drawn[part] = numbers[3], numbers[4]
        for to, number in zip(found, numbers[:3], strict=True):
            to[part] = to[part] if kind == torch.float64 else number
    loss = _losses(found, row_weights, label_smoothing, z_loss, vocabulary)
    sampled = drawn if seed_epoch is not None else drawn[:0].clone()
    return loss.to(kind), found[0].to(kind), best == targets, sampled


@head_op.register_kernel("cuda")
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
    from metro_fast.ops.cuda.head_kernel import sweep

    found = sweep(
        hidden * scale if scale != 1.0 else hidden,
        weight,
        targets,
        bias=bias,
        softcap=softcap,
        seed_epoch=seed_epoch,
        sample_ids=sample_ids,
        positions=positions,
        temperature=temperature,
        forbidden=forbidden,
        exclude_targets=exclude_targets,
    )
    sums = [found.logsumexp(), found.target.double(), found.total]
    loss = _losses(sums, row_weights, label_smoothing, z_loss, len(weight))
    sampled = found.drawn if seed_epoch is not None else found.drawn[:0].clone()
    return loss.float(), sums[0].float(), found.best == targets, sampled


def _losses(
    found: list[Tensor],
    row_weights: Tensor | None,
    label_smoothing: float,
    z_loss: float,
    vocabulary: int,
) -> Tensor:
    """The loss of each row from its logsumexp, its target's logit and the sum of its logits."""
    logsumexp, target, total = found
    loss = logsumexp - target
    if label_smoothing:
        share = share_of(label_smoothing, vocabulary)
        loss += (label_smoothing + share) * target - share * total
    if z_loss:
        loss += z_loss * logsumexp**2
    return loss if row_weights is None else loss * row_weights


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
    rows, kind = hidden.shape[0], kind_of(hidden)
    return (
        hidden.new_empty(rows, dtype=kind),
        hidden.new_empty(rows, dtype=kind),
        targets.new_empty(rows, dtype=torch.bool),
        targets.new_empty(0 if seed_epoch is None else rows),
    )


@register_flop_formula(torch.ops.metro_fast.linear_cross_entropy_sample)
def _flops(hidden: torch.Size, weight: torch.Size, *_: Any, **__: Any) -> int:
    """One product, as of a linear layer."""
    return 2 * hidden[0] * hidden[1] * weight[0]


def share_of(label_smoothing: float, vocabulary: int) -> float:
    """The smoothed target's share of each other token."""
    return label_smoothing / (vocabulary - 1) if label_smoothing else 0.0


def kind_of(hidden: Tensor) -> torch.dtype:
    """The dtype of sums: float32, and float64 of float64."""
    return torch.float64 if hidden.dtype == torch.float64 else torch.float32


def slices(length: int, size: int) -> Iterator[slice]:
    """The parts of a length, each of a size but the last."""
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def tile_logits(
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


def _add_double(logits: Tensor, targets: Tensor, tile: slice, found: list[Tensor]) -> None:
    """Add a tile to the logsumexp, the target's logit and the sum of logits in float64."""
    logsumexp, target, total = found
    logsumexp.copy_(torch.logaddexp(logsumexp, logits.logsumexp(-1)))
    at = ((targets >= tile.start) & (targets < tile.stop)).nonzero()[:, 0]
    target[at] = logits[at, targets[at] - tile.start]
    total += logits.sum(-1)
