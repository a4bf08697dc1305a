"""The draw of replacements from the auxiliary model's logits."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metro_fast.ops import torch as registered


@dataclass(frozen=True)
class Sampling:
    """How replacements are drawn.

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

    def allowed(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The logits [rows, vocabulary] with -inf at every token that may not be drawn.

        Forbidden tokens and originals are removed first, and the `top_k` are chosen among the
        rest; tokens as probable as the last of them are kept too.
        """
        if self.forbidden is not None and self.forbidden.numel():
            logits = logits.index_fill(-1, self.forbidden, -torch.inf)
        if self.exclude_original:
            logits = logits.scatter(-1, targets[:, None], -torch.inf)
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            lowest = logits.topk(self.top_k, dim=-1).values[:, -1:]
            logits = logits.masked_fill(logits < lowest, -torch.inf)
        return logits


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

    def sample(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Draw one token per row: int64 [rows].

        Args:
            logits: [rows, vocabulary], detached.
            targets: int64 [rows], the original tokens.
        """
        if not targets.numel():
            return targets
        # A tensor, so that a compiled step reads the epoch when it runs.
        seed_epoch = torch.empty(2, dtype=torch.int64, device="cpu")
        seed_epoch[0], seed_epoch[1] = self.sampling.seed, self.epoch
        # Drawn on the CPU whatever the device, so that equal logits give equal tokens.
        allowed = self.sampling.allowed(logits, targets).cpu()
        sampled: Tensor = registered.sample_replacements(
            allowed.float() if allowed.dtype == torch.float64 else allowed,
            seed_epoch,
            self.sample_ids.cpu(),
            self.positions.cpu(),
            self.sampling.temperature,
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
