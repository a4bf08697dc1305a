"""Replaced-token detection on the encoder, on the decoder, or on both."""

from typing import Any

import torch
from torch import Tensor

from metro_fast.metro.heads import TokenLoss, rows_at
from metro_fast.metro.losses import replaced_token_losses
from metro_fast.metro.modeling_outputs import MetroOutput
from metro_fast.metro.targets import DecoderTargets, flags_at


def detect(
    model: Any,
    output: MetroOutput,
    encoded: Tensor,
    decoded: Tensor,
    targets: DecoderTargets,
    tokens: Tensor,
) -> None:
    """Add the losses and logits of the detection heads to an output.

    The decoder's row at a token reads the original tokens before it and the whole encoder input;
    its head says whether the encoder's token at that place was replaced.

    Args:
        model: `MetroForPretraining`: its heads and config.
        output: Has `replaced` and `masked_positions`.
        encoded: [B, L, d_model], the encoder's rows.
        decoded: [B, D, d_model], the decoder's rows.
        targets: What the decoder reads.
        tokens: bool [B, L], False at padding.
    """
    assert output.replaced is not None
    assert output.masked_positions is not None
    scored = tokens
    if model.config.rtd_target == "masked":
        scored = flags_at(output.masked_positions, tokens)
    if model.rtd_head is not None:
        logits = model.rtd_head(encoded)
        output.rtd = _loss(logits, output.replaced, scored)
        output.rtd_logits = logits.detach().float()
    if model.rtd_decoder_head is None:
        return
    if model.config.decoding_target == "masked_only":
        rows = model.rtd_decoder_head(rows_at(decoded, targets.rows))
        replaced = output.replaced.flatten()[targets.positions]
        output.rtd_decoder = _loss(rows, replaced, torch.ones_like(replaced))
        seen = torch.full(tokens.shape, torch.nan, device=tokens.device).flatten()
        logits = seen.scatter(0, targets.positions, rows.detach().float()).view(tokens.shape)
    else:
        logits = model.rtd_decoder_head(decoded)
        output.rtd_decoder = _loss(logits, output.replaced, scored)
    output.rtd_decoder_logits = logits.detach().float()


def _loss(logits: Tensor, replaced: Tensor, scored: Tensor) -> TokenLoss:
    losses = replaced_token_losses(logits, replaced)
    correct = ((logits.detach() >= 0) == replaced) & scored
    # A product, not a selection: no shape depends on data, and padding's logits are finite.
    return TokenLoss((losses * scored).sum(), scored.sum(), correct.sum())
