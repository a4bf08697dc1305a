"""Whether an expert was applied at all: scores and logits that differ by noise alone."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ABSOLUTE_NOISE", "RELATIVE_NOISE", "probe_logits", "same_scores", "warn_if_unchanged"]

ABSOLUTE_NOISE = 1e-4
"""Difference in nats that batching alone may make in fp32.

Another batch size moved T5's scores by 7e-6 and those of SmolLM2-135M by 2.7e-5, so equal bits are
too much to ask for. One step of LoRA (rank 8, learning rate 1e-3) moved the latter by 0.16.
"""

RELATIVE_NOISE = 1e-5
"""The same as a share of the score, for options of many tokens, whose sums are large."""


def same_scores(
    first: Sequence[Sequence[Sequence[float]]], second: Sequence[Sequence[Sequence[float]]]
) -> bool:
    """Whether two models' scores differ by no more than batching does, as if they were one model.

    Args:
        first: Scores by cell, item and choice.
        second: Those of the other model, in the same order.

    Returns:
        False if any two scores differ by more than `ABSOLUTE_NOISE` and `RELATIVE_NOISE` together,
        or the numbers of choices differ.

    Example:
        >>> same_scores([[[-1.0, -2.0]]], [[[-1.00001, -2.0]]])
        True
        >>> same_scores([[[-1.0, -2.0]]], [[[-1.001, -2.0]]])
        False
    """
    rows, others = ([row for cell in cells for row in cell] for cells in (first, second))
    if [len(row) for row in rows] != [len(row) for row in others]:
        return False
    ours, theirs = (np.array([s for row in part for s in row]) for part in (rows, others))
    return bool(np.allclose(ours, theirs, rtol=RELATIVE_NOISE, atol=ABSOLUTE_NOISE))


@torch.no_grad()
def probe_logits(model: Any) -> "Tensor":
    """Logits on 32 tokens that are spread over the vocabulary.

    Args:
        model: An encoder-decoder or a causal model of transformers, or a PeftModel, in evaluation
            mode.

    Returns:
        A copy in fp32 `[positions, vocabulary]`: 8 positions of a decoder, 32 of a causal model.
    """
    config = model.config
    size = config.get_text_config(decoder=True).vocab_size
    ids = torch.linspace(0, size - 1, 32, device=model.device).long()[None]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if getattr(config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = ids[:, ::4]
    logits: Tensor = model(**inputs).logits[0].float().clone()
    return logits


def warn_if_unchanged(before: "Tensor", after: "Tensor", expert: object) -> None:
    """Warn if an expert changes no logit by more than `ABSOLUTE_NOISE`.

    Args:
        before: `probe_logits` of the model.
        after: `probe_logits` of the model with its expert.
        expert: The name of the expert, for the message.

    Warns:
        UserWarning: If the largest difference is not above the noise.
    """
    # The last positions of a model with virtual tokens are those of the input.
    largest = float((after[-len(before) :] - before).abs().max())
    if largest <= ABSOLUTE_NOISE:
        warnings.warn(
            f"the expert at {expert} changes no logit by more than {largest:.1g}, as if it were "
            "not applied: was it trained, and for this model?",
            stacklevel=2,
        )
