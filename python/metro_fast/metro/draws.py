"""The draw of replacements from the auxiliary model's logits."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metro_fast.ops import torch as registered

DRAWING = ("cpu", "cuda")
"""Types of devices that have a kernel. Logits on another device are copied to the CPU: equal logits
give equal tokens wherever they are drawn."""


@dataclass(frozen=True)
class Sampling:
    """How replacements are drawn.

    Forbidden tokens and originals are removed first, and the `top_k` are chosen among the rest;
    tokens as probable as the last of them are kept too.

    Attributes:
        seed: Seed of the draws, 0 <= seed < 2^63.
        temperature: Temperature of the softmax.
        top_k: Number of most probable tokens to draw from, or None for all.
        exclude_original: Whether the target of a row is never drawn.
        forbidden: int64 [ids], tokens that are never drawn, or None.
    """

    seed: int = 0
    temperature: float = 1.0
    top_k: int | None = None
    exclude_original: bool = False
    forbidden: Tensor | None = None


@dataclass(frozen=True)
class Draw:
    """One batch's draw: how, and the key of each row.

    Attributes:
        sampling: How replacements are drawn.
        epoch: A scalar.
        sample_ids: int64 [rows], the id of each row's sample.
        positions: int64 [rows], the place of each row in its sample.
    """

    sampling: Sampling
    epoch: Tensor | int
    sample_ids: Tensor
    positions: Tensor

    def seed_epoch(self, device: torch.device) -> Tensor:
        """Seed and epoch: int64 [2], a tensor, so that a compiled step reads them when it runs."""
        pair = torch.full((2,), self.sampling.seed, dtype=torch.int64, device=device)
        pair[1] = self.epoch
        return pair

    def options(self, device: torch.device) -> dict[str, Any]:
        """The arguments by which a head draws while it scores, `linear_cross_entropy_sample`."""
        return {
            "seed_epoch": self.seed_epoch(device),
            "sample_ids": self.sample_ids,
            "positions": self.positions,
            "temperature": self.sampling.temperature,
            "forbidden": self.sampling.forbidden,
            "exclude_targets": self.sampling.exclude_original,
        }

    def sample(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Draw one token per row: int64 [rows].

        Args:
            logits: [rows, vocabulary], detached.
            targets: int64 [rows], the original tokens.
        """
        if not targets.numel():
            return targets
        device = logits.device if logits.device.type in DRAWING else torch.device("cpu")
        sampling, forbidden = self.sampling, self.sampling.forbidden
        sampled: Tensor = registered.sample_replacements(
            (logits.float() if logits.dtype == torch.float64 else logits).to(device),
            self.seed_epoch(device),
            self.sample_ids.to(device),
            self.positions.to(device),
            sampling.temperature,
            sampling.top_k,
            None if forbidden is None else forbidden.to(device),
            targets.to(device) if sampling.exclude_original else None,
        )
        return sampled.to(logits.device)


def draw_of(
    config: Any, sample_ids: Tensor, epoch: Tensor | int, positions: Tensor, *, width: int
) -> Draw:
    """Make the draw of a batch.

    Args:
        config: `MetroConfig`.
        sample_ids: int64 [B], the id of each row of the batch.
        epoch: A scalar.
        positions: int64 [M], the masked positions of B*L.
        width: L.
    """
    sampling = Sampling(
        seed=config.sampling_seed,
        temperature=config.sampling_temperature,
        top_k=config.sampling_top_k,
        exclude_original=config.exclude_original,
        forbidden=torch.tensor(sorted(set(config.forbidden_token_ids)), device=positions.device),
    )
    return Draw(sampling, epoch, sample_ids[positions // width], positions % width)
