"""METRO's three losses as sums over tokens (never means), in fp32.

With N_M masked, N_L decoder-target and N_E encoder tokens over the whole accumulation window,
the total is (arXiv 2305.12567; metro_t0's criterion divided by its sample size)

    mlm_weight * mlm_sum / N_M + lm_weight * lm_sum / N_L + rtd_weight * rtd_sum / N_E

The trainer divides, since only the trainer has the whole window.
"""

from torch import Tensor
from torch.nn import functional


def token_loss_sum(logits: Tensor, targets: Tensor) -> Tensor:
    """Sum the cross-entropy over rows.

    Args:
        logits: [rows, vocabulary], any float type.
        targets: int64 [rows], ids of the vocabulary.

    Returns:
        An fp32 scalar; without rows it is 0 and still has a gradient to `logits`.

    Example:
        >>> import torch
        >>> round(token_loss_sum(torch.zeros(3, 4), torch.tensor([0, 1, 2])).item(), 4)
        4.1589
    """
    return functional.cross_entropy(logits.float(), targets, reduction="sum")


def replaced_token_loss_sum(logits: Tensor, replaced: Tensor, tokens: Tensor) -> Tensor:
    """Sum the binary cross-entropy of "was replaced" over the encoder's tokens.

    Args:
        logits: [B, L], any float type.
        replaced: bool [B, L], True where the encoder's token is not the original.
        tokens: bool [B, L], False at padding.

    Returns:
        An fp32 scalar.
    """
    losses = functional.binary_cross_entropy_with_logits(
        logits.float(), replaced.float(), reduction="none"
    )
    # A product, not a selection: no shape depends on data, and padding's logits are finite.
    return (losses * tokens).sum()
