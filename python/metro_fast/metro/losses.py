"""METRO's losses of single tokens, in fp32; the model sums them, and never takes a mean.

With N_M masked, N_L decoder-target and N_E encoder tokens over the whole accumulation window,
the total is (arXiv 2305.12567; metro_t0's criterion divided by its sample size)

    mlm_weight * mlm_sum / N_M + lm_weight * lm_sum / N_L + rtd_weight * rtd_sum / N_E

The trainer divides, since only the trainer has the whole window.
"""

import torch
from torch import Tensor
from torch.nn import functional


def token_losses(
    logits: Tensor,
    targets: Tensor,
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> Tensor:
    """Compute the cross-entropy of each row.

    With label smoothing e over V ids the target of a row is 1 - e at its id and e / (V - 1) at
    every other one (fairseq's `label_smoothed_cross_entropy`, which METRO-T0 uses; torch's own
    gives e / V to all ids, the target's too). The z-loss adds `z_loss` * logsumexp^2
    (Mesh TensorFlow's `softmax_cross_entropy_with_logits`).

    Args:
        logits: [rows, vocabulary], any float type.
        targets: int64 [rows], ids of the vocabulary.
        label_smoothing: Share of the target that is spread over the other ids.
        z_loss: Coefficient of the squared logsumexp.

    Returns:
        fp32 [rows]; without rows it is empty and still has a gradient to `logits`.

    Example:
        >>> import torch
        >>> token_losses(torch.zeros(2, 4), torch.tensor([0, 1]))
        tensor([1.3863, 1.3863])
    """
    logits = logits.float()
    losses = functional.cross_entropy(logits, targets, reduction="none")
    if label_smoothing:
        vocabulary = logits.shape[-1]
        share = label_smoothing / (vocabulary - 1)
        # The sum over all ids of -log p, which is V logsumexp - sum of the logits.
        every = vocabulary * torch.logsumexp(logits, -1) - logits.sum(-1)
        losses = (1 - label_smoothing - share) * losses + share * every
    if z_loss:
        losses = losses + z_loss * torch.logsumexp(logits, -1) ** 2
    return losses


def replaced_token_losses(logits: Tensor, replaced: Tensor) -> Tensor:
    """Compute the binary cross-entropy of "was replaced" for each token.

    Args:
        logits: Of any shape and float type.
        replaced: bool, of the same shape, True where the encoder's token is not the original.

    Returns:
        fp32, of the same shape.

    Example:
        >>> replaced_token_losses(torch.zeros(2), torch.tensor([True, False]))
        tensor([0.6931, 0.6931])
    """
    return functional.binary_cross_entropy_with_logits(
        logits.float(), replaced.float(), reduction="none"
    )
