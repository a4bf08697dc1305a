"""A vocabulary head in one sweep: losses and drawn tokens of logits that are never stored."""

# ruff: noqa: E402
from metro_fast._extras import require

require("torch", "torch")

from typing import NamedTuple

import torch
from torch import Tensor

from metro_fast.errors import MetroFastError
from metro_fast.ops.head_gradient import head_op

__all__ = ["HeadOutput", "linear_cross_entropy_sample"]


class HeadOutput(NamedTuple):
    """The answer of a vocabulary head for some rows.

    Attributes:
        loss: float32 [R], differentiable (float64 of float64).
        logsumexp: float32 [R], of the logits, differentiable.
        correct: bool [R], whether the target has the greatest logit.
        sampled: int64 [R], the drawn tokens; None without a draw.
    """

    loss: Tensor
    logsumexp: Tensor
    correct: Tensor
    sampled: Tensor | None


def linear_cross_entropy_sample(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    row_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    softcap: float | None = None,
    z_loss: float = 0.0,
    scale: float = 1.0,
    seed_epoch: Tensor | None = None,
    sample_ids: Tensor | None = None,
    positions: Tensor | None = None,
    temperature: float = 1.0,
    forbidden: Tensor | None = None,
    exclude_targets: bool = False,
) -> HeadOutput:
    """Compute the cross-entropy of each row of a vocabulary head, and draw a token for it.

    The logits are `scale * hidden @ weight.T + bias`, and with a softcap c they are
    `c * tanh(logits / c)`. The loss of a row is its weight times the sum of the cross-entropy, with
    label smoothing as in fairseq (`1 - e` at the target, `e / (V - 1)` elsewhere), and
    `z_loss * logsumexp^2` (Mesh TensorFlow). They are computed tile by tile, in the forward pass
    and again in the backward pass, as in Cut Cross-Entropy (arXiv 2411.09009).

    The draw is from `softmax(logits / temperature)` over the tokens that may be drawn: equal in law
    to `ops.sample_replacements`, but another function of the random numbers, because no tile knows
    the later ones. In each block of 256 tokens one is drawn by the exact sum of its weights in
    integers, and it replaces the one before with the probability of its block among those so far
    (a reservoir of one). Equal logits give equal tokens for any instruction set, tiling and number
    of threads; the logits themselves may differ in their last bits with the shape of the product.

    Args:
        hidden: [R, d], float32, bfloat16, float16 or float64, on the CPU.
        weight: [V, d], of the same dtype.
        targets: int64 [R], ids of the vocabulary.
        bias: [V].
        row_weights: [R], a factor of each row's loss, without gradient.
        label_smoothing: 0 to 1.
        softcap: Above 0.
        z_loss: Coefficient of the squared logsumexp.
        scale: Factor of the hidden states.
        seed_epoch: int64 [2], each 0 to 2^63 - 1; None for no draw.
        sample_ids: int64 [R], 0 or more; None for the indices of the rows.
        positions: int64 [R], 0 to 2^32 - 1; None for 0.
        temperature: 1e-6 to 1e6.
        forbidden: int64 [F], tokens that no row draws.
        exclude_targets: Whether no row draws its target.

    Returns:
        Losses, logsumexps, hits and drawn tokens.

    Raises:
        MetroFastError: If sizes do not match, a value is outside its domain, or a row from which a
            token is drawn has NaN, inf, or nothing but -inf.
        TypeError: If a dtype or device is not supported.

    Example:
        >>> hidden, weight = torch.eye(2), 9 * torch.eye(2)
        >>> found = linear_cross_entropy_sample(
        ...     hidden, weight, torch.tensor([0, 0]), seed_epoch=torch.tensor([0, 0])
        ... )
        >>> found.loss
        tensor([1.2340e-04, 9.0001e+00])
        >>> found.correct.tolist(), found.sampled.tolist()
        ([True, False], [0, 1])
    """
    _check(hidden, weight, targets, bias=bias, row_weights=row_weights)
    for name, keys in (("sample_ids", sample_ids), ("positions", positions)):
        if keys is not None and (keys.shape != targets.shape or keys.dtype != torch.int64):
            raise MetroFastError(
                f"{name} has shape {tuple(keys.shape)} and dtype {keys.dtype}, "
                f"expected {tuple(targets.shape)} and torch.int64"
            )
    draws = seed_epoch is not None
    loss, logsumexp, correct, sampled = head_op(
        hidden, weight, targets, bias, row_weights, label_smoothing, softcap, z_loss, scale,
        seed_epoch, sample_ids, positions, temperature, forbidden, exclude_targets,
    )  # fmt: skip
    return HeadOutput(loss, logsumexp, correct, sampled if draws else None)


def _check(
    hidden: Tensor, weight: Tensor, targets: Tensor, *, bias: Tensor | None,
    row_weights: Tensor | None,
) -> None:  # fmt: skip
    for name, tensor in (("hidden", hidden), ("weight", weight)):
        if tensor.ndim != 2 or not tensor.is_floating_point():
            raise TypeError(
                f"{name} has shape {tuple(tensor.shape)} and dtype {tensor.dtype}, "
                "expected two dimensions of a float type"
            )
    if hidden.dtype != weight.dtype or (bias is not None and bias.dtype != weight.dtype):
        raise TypeError(
            f"hidden is {hidden.dtype}, weight {weight.dtype}"
            + ("" if bias is None else f" and bias {bias.dtype}")
            + ", expected one dtype"
        )
    rows, width = hidden.shape
    vocabulary = len(weight)
    for label, each, shape in (
        ("weight", weight, (vocabulary, width)),
        ("targets", targets, (rows,)),
        ("bias", bias, (vocabulary,)),
        ("row_weights", row_weights, (rows,)),
    ):
        if each is not None and tuple(each.shape) != shape:
            raise MetroFastError(f"{label} has shape {tuple(each.shape)}, expected {shape}")
    if targets.dtype != torch.int64:
        raise TypeError(f"targets is {targets.dtype}, expected torch.int64")
