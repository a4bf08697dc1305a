"""The result of a METRO forward pass."""

from dataclasses import dataclass

from torch import Tensor
from transformers.utils import ModelOutput

from metro_fast.metro.heads import TokenLoss


@dataclass
class MetroOutput(ModelOutput):  # type: ignore[misc]  # transformers is untyped
    """One record for each loss, and what `figures` and the pictures of a run are made from.

    "Scored" positions are those with a decoder loss: the masked ones, or all tokens if the
    decoding target is "all".

    Attributes:
        mlm: The auxiliary model's loss over masked positions.
        lm: The decoder's loss over scored positions.
        rtd: The detection's loss on the encoder, over its tokens or the masked ones of them
            (`rtd_target`); None without that head.
        rtd_decoder: The same for a head on the decoder.
        encoder_ids: int64 [B, L], the main encoder's input.
        replaced: bool [B, L], encoder tokens that are not the original.
        masked_positions: int64 [M], flat positions of B*L.
        sampled_ids: int64 [M], the tokens drawn for the masked positions.
        scored_positions: int64 [S], flat positions of B*L.
        lm_correct: bool [S], whether the decoder ranks the original first.
        rtd_logits: fp32 [B, L], detached, for all positions; None without that head.
        rtd_decoder_logits: The same for a head on the decoder; NaN at tokens that the decoder
            does not read (`decoding_target` "masked_only").
    """

    mlm: TokenLoss | None = None
    lm: TokenLoss | None = None
    rtd: TokenLoss | None = None
    rtd_decoder: TokenLoss | None = None
    encoder_ids: Tensor | None = None
    replaced: Tensor | None = None
    masked_positions: Tensor | None = None
    sampled_ids: Tensor | None = None
    scored_positions: Tensor | None = None
    lm_correct: Tensor | None = None
    rtd_logits: Tensor | None = None
    rtd_decoder_logits: Tensor | None = None
