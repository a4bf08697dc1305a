"""The result of a METRO forward pass: sums, counts, and the sampled tokens."""

from dataclasses import dataclass

from torch import Tensor
from transformers.utils import ModelOutput


@dataclass
class MetroOutput(ModelOutput):  # type: ignore[misc]  # transformers is untyped
    """Sums over tokens and counters, which can be added over batches and ranks.

    "Scored" positions are those with a decoder loss: the masked ones, or all tokens if the
    decoding target is "all".

    Attributes:
        mlm_loss_sum: fp32, the auxiliary model's loss over masked positions.
        lm_loss_sum: fp32, the decoder's loss over scored positions.
        rtd_loss_sum: fp32, the detection's loss over encoder tokens, or over masked ones with
            `rtd_target="masked"`; 0 without a detection head. The counts below, and `rtd_logits`,
            are of all tokens either way.
        num_masked: int64, masked positions.
        num_scored: int64, scored positions.
        num_encoder_tokens: int64, tokens of the encoder that are not padding.
        num_replaced: int64, encoder tokens that are not the original.
        mlm_correct: Masked positions where the auxiliary model ranks the original first.
        lm_correct_masked: Masked positions where the decoder ranks the original first.
        lm_correct_replaced: Scored positions with a replaced token that are decoded correctly.
        lm_scored_replaced: Scored positions with a replaced token.
        lm_correct_unreplaced: Scored positions with the original token that are decoded
            correctly.
        rtd_true_positive: Replaced tokens with a logit >= 0.
        rtd_false_positive: Original tokens with a logit >= 0.
        rtd_logits: fp32 [B, L], detached; None without a detection head.
        replaced: bool [B, L], encoder tokens that are not the original.
        sampled_ids: int64 [M], the tokens drawn for the masked positions.
        encoder_ids: int64 [B, L], the main encoder's input.
    """

    mlm_loss_sum: Tensor | None = None
    lm_loss_sum: Tensor | None = None
    rtd_loss_sum: Tensor | None = None
    num_masked: Tensor | None = None
    num_scored: Tensor | None = None
    num_encoder_tokens: Tensor | None = None
    num_replaced: Tensor | None = None
    mlm_correct: Tensor | None = None
    lm_correct_masked: Tensor | None = None
    lm_correct_replaced: Tensor | None = None
    lm_scored_replaced: Tensor | None = None
    lm_correct_unreplaced: Tensor | None = None
    rtd_true_positive: Tensor | None = None
    rtd_false_positive: Tensor | None = None
    rtd_logits: Tensor | None = None
    replaced: Tensor | None = None
    sampled_ids: Tensor | None = None
    encoder_ids: Tensor | None = None
