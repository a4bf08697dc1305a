"""The task of a trainer: its summed losses, their counts, and its figures."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

Batch = Mapping[str, Any]


@dataclass(frozen=True)
class StepResult:
    """The result of one forward pass.

    Attributes:
        sums: fp32 [losses], sums over tokens (never means), differentiable.
        counters: Detached vectors or scalars by name, which are summed for the figures.
        predictions: int64 [B, T] token ids that the model ranks first, for `compute_metrics`; None
            from an objective that has none.
    """

    sums: Tensor
    counters: Mapping[str, Tensor]
    predictions: Tensor | None = None


class Objective(Protocol):
    """A task of one or more losses, each a sum over tokens divided by its own count."""

    @property
    def losses(self) -> tuple[str, ...]:
        """Names of the losses."""

    @property
    def weights(self) -> tuple[float, ...]:
        """Weight of each loss in the total."""

    @property
    def counters(self) -> Mapping[str, int]:
        """Length of each counter of `StepResult.counters`."""

    def count(self, batch: Batch) -> Tensor:
        """Count the tokens of the batch that each loss is taken over: int64 [losses]."""

    def run(self, model: nn.Module, batch: Batch) -> StepResult:
        """Run the (possibly wrapped) model on a batch."""

    def figures(self, counters: Mapping[str, Tensor]) -> dict[str, float]:
        """Compute figures from counters summed over a window; those without tokens are left out."""


def normalized(sums: Tensor, counts: Tensor, weights: tuple[float, ...]) -> Tensor:
    """Compute the total loss: the sum of weight * sum / count, where an empty loss gives 0.

    Args:
        sums: fp32 [losses].
        counts: int64 [losses].
        weights: One number per loss.

    Returns:
        A scalar that keeps the graph of every sum, even of one whose count is 0.

    Example:
        >>> normalized(torch.tensor([6.0, 0.0]), torch.tensor([3, 0]), (1.0, 50.0))
        tensor(2.)
    """
    factors = torch.tensor(weights, dtype=torch.float64, device=sums.device)
    factors = factors / counts.to(sums.device).clamp(min=1)
    return (sums * factors.to(sums.dtype)).sum()


def tokens_of(batch: Batch) -> Tensor:
    """Count the tokens that the encoder reads, without padding: an int64 scalar.

    Example:
        >>> tokens_of({"attention_mask": torch.tensor([[1, 1, 0]])})
        tensor(2)
    """
    mask = batch.get("attention_mask")
    return torch.tensor(batch["input_ids"].numel()) if mask is None else mask.sum()
