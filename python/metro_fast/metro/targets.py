"""The decoder's side of a METRO batch: what it reads, which rows have a loss, and their targets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class DecoderTargets:
    """The ids that the decoder reads, and those that it predicts.

    Attributes:
        decoder_ids: int64 [B, D], the decoder's input.
        rows: int64 [S], flat positions of B*D whose outputs have a loss, ascending.
        targets: int64 [S], the original token of each.
        positions: int64 [S], the flat position of each in the encoder's B*L.
    """

    decoder_ids: Tensor
    rows: Tensor
    targets: Tensor
    positions: Tensor


def decoder_targets(
    config: Any, original: Tensor, tokens: Tensor, masked_positions: Tensor
) -> DecoderTargets:
    """Make the decoder's side of a batch.

    Args:
        config: `MetroConfig`. With the decoding target "all" every token of the original has a
            loss; with "all_masked_loss" the decoder reads the whole original, and masked tokens
            have a loss; with "masked_only" it reads and predicts the masked tokens of each row
            alone, in their order.
        original: int64 [B, L], the original ids, with any id at padding.
        tokens: bool [B, L], False at padding on the right.
        masked_positions: int64 [M], flat positions of B*L, ascending.

    Example:
        >>> from metro_fast.metro import MetroConfig
        >>> config = MetroConfig(decoding_target="masked_only")
        >>> original, masked = torch.tensor([[5, 6, 7], [8, 9, 4]]), torch.tensor([1, 2, 4])
        >>> every = torch.ones_like(original, dtype=torch.bool)
        >>> made = decoder_targets(config, original, every, masked)
        >>> made.decoder_ids.tolist(), made.rows.tolist(), made.targets.tolist()
        ([[0, 6], [0, 9]], [0, 1, 2], [6, 7, 9])
    """
    flat, start_id = original.flatten(), config.decoder_start_token_id
    if config.decoding_target == "masked_only":
        return _masked_only(
            original, masked_positions, start_id=start_id, pad_id=config.pad_token_id
        )
    decoder_ids = original.roll(1, dims=1)
    decoder_ids[:, 0] = start_id
    scored = masked_positions
    if config.decoding_target == "all":
        scored = tokens.flatten().nonzero().squeeze(1)
    return DecoderTargets(decoder_ids, scored, flat[scored], scored)


def flags_at(positions: Tensor, tokens: Tensor) -> Tensor:
    """Mark flat positions [M] of B*L in a bool tensor of the shape of `tokens` [B, L]."""
    return torch.zeros_like(tokens).flatten().index_fill(0, positions, True).view_as(tokens)


def _masked_only(
    original: Tensor, masked_positions: Tensor, *, start_id: int, pad_id: int
) -> DecoderTargets:
    batch, width = original.shape
    row = masked_positions // width
    counts = torch.bincount(row, minlength=batch)
    # One column at least, so that the decoder runs, and has gradients, without a masked token.
    columns = max(1, int(counts.max()))
    place = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    targets = original.flatten()[masked_positions]
    rows = row * columns + place
    predicted = original.new_full((batch * columns,), pad_id).scatter(0, rows, targets)
    decoder_ids = predicted.view(batch, columns).roll(1, dims=1)
    decoder_ids[:, 0] = start_id
    return DecoderTargets(decoder_ids, rows, targets, masked_positions)


# The shapes of "all" and "masked_only" depend on data: one graph break if they are made outside the
# graph, three and five inside it.
decoder_targets_outside_graph = torch.compiler.disable(decoder_targets)  # type: ignore[no-untyped-call]


def denominators(config: Any, names: tuple[str, ...], batch: Mapping[str, Tensor]) -> Tensor:
    """Read from a batch, before any forward pass, how many tokens each loss is taken over.

    Args:
        config: `MetroConfig`: its decoding and detection targets.
        names: Losses, of "mlm", "lm", "rtd" and "rtd_decoder".
        batch: Holds the counts that the collator made: `num_masked`, `num_labels` and
            `num_encoder_tokens`.

    Returns:
        int64 [losses].
    """
    detected = "num_encoder_tokens" if config.rtd_target == "all" else "num_masked"
    counts = {
        "mlm": "num_masked",
        "lm": "num_labels" if config.decoding_target == "all" else "num_masked",
        "rtd": detected,
        "rtd_decoder": detected,
    }
    return torch.stack([torch.as_tensor(batch[counts[name]]).view(()) for name in names])
