"""The auxiliary model's part of a step: its loss, and the tokens that fill the masks."""

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from metro_fast._ranges import check_choice
from metro_fast.metro.draws import Draw
from metro_fast.metro.heads import Prediction, TokenLoss, rows_at

AuxiliaryStage = Literal["trained", "frozen", "dropped"]


def fill_masks(
    model: Any,
    ids: Tensor,
    mask: Tensor,
    original: Tensor,
    positions: Tensor,
    draw: Draw,
    *,
    stage: AuxiliaryStage,
) -> tuple[TokenLoss, Tensor]:
    """Compute the auxiliary model's loss, and draw a token for each masked position.

    Args:
        model: `MetroForPretraining`: its auxiliary model, head and config.
        ids: int64 [B, L], the masked input.
        mask: int64 [B, L], 1 at tokens.
        original: int64 [B, L], the original ids.
        positions: int64 [M], the masked positions.
        draw: How to draw.
        stage: "frozen" runs the model without gradients; "dropped" does not run it, and leaves the
            tokens of `ids` at the masked positions.

    Returns:
        The loss, and int64 [M] tokens. Every weight gets a gradient in every stage, if need be
        of 0, because DDP waits for all of them.
    """
    check_choice(get_args(AuxiliaryStage), auxiliary=stage)
    targets = original.flatten()[positions]
    if stage == "dropped":
        nothing = targets.new_zeros(())
        return TokenLoss(_idle(model), nothing, nothing), ids.flatten()[positions]
    again = model.config.sampling_mode == "eval" and model.auxiliary.training
    with torch.set_grad_enabled(torch.is_grad_enabled() and stage == "trained"):
        found = _predict(model, ids, mask, positions, targets, None if again else draw)
    loss, sampled = found.loss, found.sampled
    if again:
        modes = [(part, part.training) for part in model.auxiliary.modules()]
        try:
            model.auxiliary.eval()
            with torch.no_grad():
                sampled = _predict(model, ids, mask, positions, targets, draw).sampled
        finally:
            for part, training in modes:
                part.training = training
    if stage == "frozen":
        loss = loss._replace(sum=loss.sum + _idle(model))
    assert sampled is not None
    return loss, sampled


def _predict(
    model: Any, ids: Tensor, mask: Tensor, positions: Tensor, targets: Tensor, draw: Draw | None
) -> Prediction:
    hidden = model.auxiliary(input_ids=ids, attention_mask=mask).last_hidden_state
    found: Prediction = model.auxiliary_head.predict(rows_at(hidden, positions), targets, draw=draw)
    return found


def _idle(model: Any) -> Tensor:
    """0, with a gradient of 0 to every weight of the auxiliary model."""
    parts = (*model.auxiliary.parameters(), *model.mlm_head.parameters())
    return torch.stack([part.flatten()[:1].float().sum() * 0 for part in parts]).sum()
