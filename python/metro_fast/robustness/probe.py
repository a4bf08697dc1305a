"""Whether an expert was applied at all: logits before and after."""

import warnings
from typing import Any

from metro_fast._extras import require

require("torch", "eval")

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from metro_fast.robustness.unchanged import ABSOLUTE_NOISE  # noqa: E402

__all__ = ["probe_logits", "warn_if_unchanged"]


@torch.no_grad()
def probe_logits(model: Any) -> Tensor:
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


def warn_if_unchanged(before: Tensor, after: Tensor, expert: object) -> None:
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
