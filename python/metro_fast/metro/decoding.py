"""The decoder's part of a step: the loss of the original tokens."""

from typing import Any

from torch import Tensor

from metro_fast.metro.heads import rows_at
from metro_fast.metro.modeling_outputs import MetroOutput
from metro_fast.metro.targets import DecoderTargets


def predict_originals(
    model: Any, output: MetroOutput, decoded: Tensor, targets: DecoderTargets
) -> None:
    """Add the decoder's loss and predictions to an output.

    Args:
        model: `MetroForPretraining`: its main head and config.
        output: Has the logits of the detection heads.
        decoded: [B, D, d_model], the decoder's rows.
        targets: Which rows have a loss, and their targets.
    """
    found = model.main_head.predict(
        rows_at(decoded, targets.rows),
        targets.targets,
        row_weights=_row_weights(model.config, output, targets.positions),
    )
    output.lm, output.lm_correct = found.loss, found.correct
    output.scored_positions = targets.positions


def _row_weights(config: Any, output: MetroOutput, positions: Tensor) -> Tensor | None:
    """Factors of the decoder's losses: the probability that each token was replaced."""
    if not config.weighted_lm_loss:
        return None
    logits = output.rtd_logits if output.rtd_logits is not None else output.rtd_decoder_logits
    assert logits is not None  # MetroOptions refuses weights without a detection head
    every = logits.sigmoid()
    weights = every.flatten()[positions]
    if not config.divide_by_mean_weight:
        return weights
    averaged = every if config.mean_weight_with_padding else weights
    # Without rows the sum is 0, and the product an empty tensor.
    return weights * (averaged.numel() / averaged.sum().clamp_min(1e-30))
