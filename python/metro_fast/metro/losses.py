"""METRO's three losses as sums over tokens (never means), in fp32.

With N_M masked, N_L decoder-target and N_E encoder tokens over the whole accumulation window,
the total is (arXiv 2305.12567; metro_t0's criterion divided by its sample size)

    mlm_weight * mlm_sum / N_M + lm_weight * lm_sum / N_L + rtd_weight * rtd_sum / N_E

The trainer divides, since only the trainer has the whole window.
"""

import torch
from torch import Tensor
from torch.nn import functional


def token_loss_sum(
    logits: Tensor,
    targets: Tensor,
    *,
    row_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> Tensor:
    """Sum the cross-entropy over rows.

    With label smoothing e over V ids the target of a row is 1 - e at its id and e / (V - 1) at
    every other one (fairseq's `label_smoothed_cross_entropy`, which METRO-T0 uses; torch's own
    gives e / V to all ids, the target's too). The z-loss adds `z_loss` * logsumexp^2
    (Mesh TensorFlow's `softmax_cross_entropy_with_logits`).

    Args:
        logits: [rows, vocabulary], any float type.
        targets: int64 [rows], ids of the vocabulary.
        row_weights: fp32 [rows], a factor of each row's loss, without gradient; None for 1.
        label_smoothing: Share of the target that is spread over the other ids.
        z_loss: Coefficient of the squared logsumexp.

    Returns:
        An fp32 scalar; without rows it is 0 and still has a gradient to `logits`.

    Example:
        >>> import torch
        >>> round(token_loss_sum(torch.zeros(3, 4), torch.tensor([0, 1, 2])).item(), 4)
        4.1589
    """
    logits = logits.float()
    if row_weights is None and not label_smoothing and not z_loss:
        return functional.cross_entropy(logits, targets, reduction="sum")
    losses = functional.cross_entropy(logits, targets, reduction="none")
    if label_smoothing:
        vocabulary = logits.shape[-1]
        share = label_smoothing / (vocabulary - 1)
        # The sum over all ids of -log p, which is V logsumexp - sum of the logits.
        every = vocabulary * torch.logsumexp(logits, -1) - logits.sum(-1)
        losses = (1 - label_smoothing - share) * losses + share * every
    if z_loss:
        losses = losses + z_loss * torch.logsumexp(logits, -1) ** 2
    return losses.sum() if row_weights is None else (losses * row_weights).sum()


def replaced_token_loss_sum(logits: Tensor, replaced: Tensor, scored: Tensor) -> Tensor:
    """Sum the binary cross-entropy of "was replaced" over tokens.

    Args:
        logits: [B, L], any float type.
        replaced: bool [B, L], True where the encoder's token is not the original.
        scored: bool [B, L], tokens that have a loss; False at padding.

    Returns:
        An fp32 scalar.
    """
    losses = functional.binary_cross_entropy_with_logits(
        logits.float(), replaced.float(), reduction="none"
    )
    # A product, not a selection: no shape depends on data, and padding's logits are finite.
    return (losses * scored).sum()
