"""The log-likelihood of whole targets."""

import torch

from metro_fast.errors import MetroFastError

__all__ = ["target_log_probs"]


def target_log_probs(
    logits: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """Compute the log-likelihood of whole targets from a decoder's logits.

    Args:
        logits: `[N, T, V]`, any floating dtype; row t predicts `labels[:, t]`.
        labels: `[N, T]`, int64, with 0 <= id < V even where the mask is False.
        mask: `[N, T]`, bool; False at padding.

    Returns:
        `[N]`, fp32, in nats: Σ_t log softmax(logits)[labels] where the mask is True.

    Raises:
        MetroFastError: If the shapes do not fit together, or a label is outside the vocabulary.

    Example:
        >>> logits = torch.tensor([[[0.0, 0.0], [0.0, float("-inf")]]])
        >>> target_log_probs(logits, torch.tensor([[0, 1]]), torch.tensor([[True, False]]))
        tensor([-0.6931])
    """
    if logits.ndim != 3 or labels.shape != logits.shape[:2] or mask.shape != labels.shape:
        raise MetroFastError(
            f"logits, labels and mask have shapes {list(logits.shape)}, {list(labels.shape)}, "
            f"{list(mask.shape)}; give [N, T, V], [N, T], [N, T]"
        )
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < logits.shape[-1]:
        raise MetroFastError(
            f"labels span [{int(labels.min())}, {int(labels.max())}], outside the vocabulary "
            f"[0, {logits.shape[-1]})"
        )
    logits = logits.float()
    chosen = logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    log_probs = chosen - logits.logsumexp(-1)
    # T0 computes mask * log_probs, but 0 * -inf is NaN where padding has probability zero.
    return torch.where(mask.bool(), log_probs, 0.0).sum(-1)
