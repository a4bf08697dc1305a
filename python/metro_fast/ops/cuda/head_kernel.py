"""The forward pass of the fused head in Triton: logits are in registers, and never in memory.

Each program computes the logits of some rows for one block of 256 tokens after the other, and takes
from them what the loss and the draw need: see `ops.linear_cross_entropy_sample` and
rust/core/src/replace/sweep. After the logits all is integers, so that equal logits give the tokens
of the CPU. Not yet run on a GPU: the tests run it in Triton's interpreter.
"""

# ruff: noqa: E402
# Triton reads annotations as its own.
# mypy: disable-error-code="no-untyped-def,untyped-decorator"
from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from metro_fast._extras import require
from metro_fast.ops.cuda.flags import flags_of
from metro_fast.ops.cuda.kernels import check

require("torch", "torch")
require("triton", "torch")

import torch
import triton
import triton.language as tl

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Swept", "sweep"]

BLOCK = 256
"""Tokens of a block, which are part of the definition of a draw."""

FARTHEST = tl.constexpr(float(41 << 25))
DECIDING = tl.constexpr(1 << 31)
STREAM_REPLACE = tl.constexpr(3)
C1, C2 = tl.constexpr(0x58B84744), tl.constexpr(0x1F0F3E4C)


class Swept(NamedTuple):
    """The state of each row after the sweep.

    Attributes:
        greatest: float32 [R], the greatest logit; NaN where a logit is NaN or +inf.
        mass: int64 [R], the sum of the weights relative to it, times 2^40.
        target: float32 [R], the target's logit.
        total: float64 [R], the sum of the logits.
        best: int64 [R], the first token with the greatest logit.
        drawn: int64 [R], the drawn token, or -1.
    """

    greatest: Tensor
    mass: Tensor
    target: Tensor
    total: Tensor
    best: Tensor
    drawn: Tensor

    def logsumexp(self) -> Tensor:
        """The logsumexp of each row, float64 [R]."""
        return self.greatest.double() + (self.mass.double() / 2.0**40).log()


@triton.jit
def _distance(greatest, logit, scale):
    return tl.minimum((greatest - logit) * scale, FARTHEST).to(tl.int32).to(tl.uint32)


@triton.jit
def _weight(distance, table):
    shift = (distance + ((1 << 25) - 1)) >> 25
    rest = (shift << 25) - distance
    entry = tl.load(table + (rest >> 20).to(tl.int32)).to(tl.uint64)
    r = (rest & 0xFFFFF).to(tl.uint64)
    slope = ((r * C2) >> 25) + C1
    growth = (slope * r) >> 24
    mantissa = entry + ((entry * growth) >> 32)
    return (mantissa << 9) >> shift.to(tl.uint64)


@triton.jit
def _shrunk(mass, factor):
    """`mass * factor / 2^40` of a product with 128 bits."""
    return (tl.umulhi(mass, factor) << 24) | ((mass * factor) >> 40)


@triton.jit
def _uniform(number, position, sample_id, key, other_key, ADDED: tl.constexpr):
    low_id = (sample_id & 0xFFFFFFFF).to(tl.uint32)
    high_id = (sample_id >> 32).to(tl.uint32)
    # In 64 bits, which hold 2^31.
    counter = (tl.zeros_like(sample_id) + number + ADDED).to(tl.uint32)
    low, high, _, _ = tl.philox_impl(counter, position, low_id, high_id, key, other_key)
    return low.to(tl.uint64) | (high.to(tl.uint64) << 32)


@triton.jit
def _merge(greatest, mass, top, here, scale, table):
    """Both masses relative to the greater maximum; a mass of 0 may have -inf for its maximum."""
    highest = tl.maximum(greatest, top)
    some = highest > float("-inf")
    finite = tl.where(some, highest, 0.0)
    before = _shrunk(mass, _weight(_distance(finite, greatest, scale), table))
    after = _shrunk(here, _weight(_distance(finite, top, scale), table))
    return highest, tl.where(mass > 0, before, 0), tl.where(here > 0, after, 0)


@triton.jit
def _sweep(
    hidden, weight, bias, targets, never, table, sample_ids, positions, seed_epoch,
    greatest_out, mass_out, target_out, total_out, best_out, drawn_out,
    rows, width, vocabulary, softcap, scale_one, scale_draw,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, INNER: tl.constexpr, BIAS: tl.constexpr,
    SOFTCAP: tl.constexpr, DRAWS: tl.constexpr, NEVER: tl.constexpr, EXCLUDE: tl.constexpr,
    SAME_SCALE: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = row < rows
    target_id = tl.load(targets + row, mask=inside, other=-1)
    greatest = tl.full([ROWS], float("-inf"), tl.float32)
    mass = tl.zeros([ROWS], tl.uint64)
    target = tl.zeros([ROWS], tl.float32)
    total = tl.zeros([ROWS], tl.float64)
    best = tl.full([ROWS], -1, tl.int64)
    bad = tl.zeros([ROWS], tl.int32)
    draw_greatest = tl.full([ROWS], float("-inf"), tl.float32)
    draw_mass = tl.zeros([ROWS], tl.uint64)
    drawn = tl.full([ROWS], -1, tl.int64)
    if DRAWS:
        seed, epoch = tl.load(seed_epoch), tl.load(seed_epoch + 1)
        key, other_key, _, _ = tl.philox_impl(
            (epoch & 0xFFFFFFFF).to(tl.uint32), (epoch >> 32).to(tl.uint32),
            tl.full([], STREAM_REPLACE, tl.uint32), tl.full([], 0, tl.uint32),
            (seed & 0xFFFFFFFF).to(tl.uint32), (seed >> 32).to(tl.uint32),
        )  # fmt: skip
        sample_id = tl.load(sample_ids + row, mask=inside, other=0)
        position = tl.load(positions + row, mask=inside, other=0).to(tl.uint32)
    for first in range(0, vocabulary, BLOCK):
        column = first + tl.arange(0, BLOCK)
        known = column < vocabulary
        logits = tl.zeros([ROWS, BLOCK], tl.float32)
        for start in range(0, width, INNER):
            inner = start + tl.arange(0, INNER)
            left = tl.load(
                hidden + row[:, None] * width + inner[None, :],
                mask=inside[:, None] & (inner < width)[None, :], other=0.0,
            )  # fmt: skip
            right = tl.load(
                weight + column[None, :].to(tl.int64) * width + inner[:, None],
                mask=known[None, :] & (inner < width)[:, None], other=0.0,
            )  # fmt: skip
            logits += tl.dot(left, right, input_precision="ieee")
        if BIAS:
            logits += tl.load(bias + column, mask=known, other=0.0).to(tl.float32)[None, :]
        if SOFTCAP:
            logits = softcap * (1 - 2 / (tl.exp(2 * logits / softcap) + 1))
        wrong = (logits != logits) | (logits == float("inf"))
        fine = tl.max((wrong & known[None, :]).to(tl.int32), 1) == 0
        bad = tl.where(fine, bad, 1)
        total += tl.sum(tl.where(known[None, :], logits, 0.0).to(tl.float64), 1)
        hit = column[None, :] == target_id[:, None]
        target += tl.sum(tl.where(hit, logits, 0.0), 1)
        # A block with a bad logit counts for nothing, as on the CPU.
        logits = tl.where(known[None, :] & fine[:, None], logits, float("-inf"))
        top = tl.max(logits, 1)
        finite = tl.where(top > float("-inf"), top, 0.0)
        weights = _weight(_distance(finite[:, None], logits, scale_one), table)
        here = tl.where(top > float("-inf"), tl.sum(weights, 1), 0)
        at_top = tl.min(tl.where(logits >= top[:, None], column[None, :], 0x7FFFFFFF), 1)
        best = tl.where(top > greatest, at_top.to(tl.int64), best)
        if DRAWS:
            draw_top, draw_here, draw_weights = top, here, weights
            if NEVER or EXCLUDE:
                if NEVER:
                    removed = tl.load(never + column, mask=known, other=0)
                    logits = tl.where((removed != 0)[None, :], float("-inf"), logits)
                if EXCLUDE:
                    logits = tl.where(hit, float("-inf"), logits)
                draw_top = tl.max(logits, 1)
            if NEVER or EXCLUDE or not SAME_SCALE:
                finite = tl.where(draw_top > float("-inf"), draw_top, 0.0)
                draw_weights = _weight(_distance(finite[:, None], logits, scale_draw), table)
                draw_here = tl.where(draw_top > float("-inf"), tl.sum(draw_weights, 1), 0)
            draw_greatest, before, after = _merge(
                draw_greatest, draw_mass, draw_top, draw_here, scale_draw, table
            )
            draw_mass = before + after
            number = first // BLOCK
            deciding = _uniform(number, position, sample_id, key, other_key, DECIDING)
            taken = (after > 0) & (tl.umulhi(deciding, draw_mass) >= before)
            if tl.max(taken.to(tl.int32), 0) > 0:
                choosing = _uniform(number, position, sample_id, key, other_key, 0)
                aim = tl.umulhi(choosing, draw_here)
                below = tl.cumsum(draw_weights, 1) <= aim[:, None]
                place = first + tl.sum(below.to(tl.int32), 1)
                drawn = tl.where(taken, place.to(tl.int64), drawn)
        greatest, before, after = _merge(greatest, mass, top, here, scale_one, table)
        mass = before + after
    tl.store(greatest_out + row, tl.where(bad != 0, float("nan"), greatest), mask=inside)
    tl.store(mass_out + row, mass.to(tl.int64), mask=inside)
    tl.store(target_out + row, target, mask=inside)
    tl.store(total_out + row, total, mask=inside)
    tl.store(best_out + row, best, mask=inside)
    tl.store(drawn_out + row, drawn, mask=inside)


@cache
def _table(device: torch.device) -> Tensor:
    """`2^31 * 2^(i / 32)`, rounded."""
    entries = [round(2 ** (31 + i / 32)) for i in range(32)]
    return torch.tensor(entries, dtype=torch.int64, device=device)


def _factor(temperature: float) -> float:
    return float(np.float32(np.log2(np.e) / temperature)) * 2.0**25


def sweep(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None,
    softcap: float | None,
    seed_epoch: Tensor | None,
    sample_ids: Tensor | None,
    positions: Tensor | None,
    temperature: float,
    forbidden: Tensor | None,
    exclude_targets: bool,
) -> Swept:
    """Visit the whole vocabulary for each row.

    Args:
        hidden: [R, d], scaled.
        weight: [V, d], of the same dtype.
        targets: int64 [R].
        bias: [V], or None.
        softcap: Bound of the logits, or None.
        seed_epoch: int64 [2] on the device, or None for no draw.
        sample_ids: int64 [R], or None for the indices of the rows.
        positions: int64 [R], or None for 0.
        temperature: 1e-6 to 1e6.
        forbidden: int64 [F], tokens that no row draws, or None.
        exclude_targets: Whether no row draws its target.
    """
    rows, width = hidden.shape
    vocabulary, device = len(weight), hidden.device
    draws = seed_epoch is not None

    def empty(dtype: torch.dtype) -> Tensor:
        return torch.empty(rows, dtype=dtype, device=device)

    floats, ids = (empty(torch.float32) for _ in range(2)), [empty(torch.int64) for _ in range(3)]
    out = Swept(next(floats), ids[0], next(floats), empty(torch.float64), ids[1], ids[2])
    if rows == 0:
        return out
    never = None
    if forbidden is not None and forbidden.numel():
        never = torch.zeros(vocabulary, dtype=torch.int8, device=device)
        never.index_fill_(0, forbidden, 1)
    if draws and sample_ids is None:
        sample_ids = torch.arange(rows, device=device)
    if draws and positions is None:
        positions = torch.zeros(rows, dtype=torch.int64, device=device)
    program_rows = 64
    _sweep[(triton.cdiv(rows, program_rows),)](
        hidden.contiguous(), weight.contiguous(), bias, targets, never, _table(device),
        sample_ids, positions, seed_epoch, *out, rows, width, vocabulary,
        1.0 if softcap is None else softcap, _factor(1.0), _factor(temperature),
        ROWS=program_rows, BLOCK=BLOCK, INNER=32, BIAS=bias is not None,
        SOFTCAP=softcap is not None, DRAWS=draws, NEVER=never is not None,
        EXCLUDE=exclude_targets, SAME_SCALE=temperature == 1.0, num_warps=8,
        # A distance is rounded after its subtraction and after its multiplication.
        enable_fp_fusion=False,
    )  # fmt: skip
    if draws:
        _flag(out, flags_of(device))
        check(device)
    return out


def _flag(found: Swept, flags: Tensor) -> None:
    """Flag the first row with a bad logit or without a draw, without waiting for the device."""
    missing = found.greatest.isnan() | (found.drawn < 0)
    first = missing.int().argmax().int()
    code = torch.where(found.greatest[first].isnan(), 16, 17).int()
    before = torch.where(flags[1] < 0, first, torch.minimum(flags[1], first))
    both = torch.stack([torch.maximum(flags[0], code), before])
    flags.copy_(torch.where(missing.any(), both, flags))
