"""Answers that a model writes: greedy, in batches, up to a stop text."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from metro_fast.scoring.batches import buckets, cached_tokens
from metro_fast.scoring.decoders import Decoder
from metro_fast.scoring.protocol import Protocol

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["written_answers"]


def written_answers(
    decoder: Decoder,
    tokenizer: "PreTrainedTokenizerBase",
    contexts: Sequence[Sequence[int]],
    protocol: Protocol,
    *,
    max_batch_tokens: int,
    bar: Any,
) -> list[str]:
    """Let a model answer greedily, whatever its own generation settings are.

    Args:
        decoder: The model.
        tokenizer: Its tokenizer.
        contexts: Ids of each context.
        protocol: Says how long an answer may be, and where it ends.
        max_batch_tokens: Most padded tokens of one batch, answers included.
        bar: A progress bar, which counts contexts.

    Returns:
        The text of each answer, without special tokens, up to the first stop text.
    """
    model = decoder.model
    settings = GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=protocol.max_new_tokens,
        eos_token_id=_end_ids(model, tokenizer),
        pad_token_id=_pad_id(model, tokenizer),
        decoder_start_token_id=getattr(model.config, "decoder_start_token_id", None),
    )
    texts = [""] * len(contexts)
    lengths = [len(context) for context in contexts]
    order = sorted(range(len(contexts)), key=lambda i: (-lengths[i], tuple(contexts[i])))
    most = min(max_batch_tokens, cached_tokens(model))
    for rows in buckets(order, lengths, most, per_row=protocol.max_new_tokens):
        inputs = decoder.generation_inputs([contexts[i] for i in rows])
        given = inputs["input_ids"].shape[1] if decoder.causal else 1
        criteria = StoppingCriteriaList([_StopTexts(tokenizer, protocol.stop, given)])
        ids = model.generate(**inputs, generation_config=settings, stopping_criteria=criteria)
        written = tokenizer.batch_decode(ids[:, given:], skip_special_tokens=True)
        for i, text in zip(rows, written, strict=True):
            texts[i] = _until(text, protocol.stop)
        bar.update(len(rows))
    return texts


class _StopTexts(StoppingCriteria):  # type: ignore[misc]  # transformers is untyped
    """Ends an answer as soon as a stop text is in it."""

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", stop: tuple[str, ...], given: int
    ) -> None:
        self._tokenizer, self._stop, self._given = tokenizer, stop, given

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        if not self._stop:
            return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        texts = self._tokenizer.batch_decode(input_ids[:, self._given :], skip_special_tokens=True)
        ended = [any(stop in text for stop in self._stop) for text in texts]
        return torch.tensor(ended, device=input_ids.device)


def _until(text: str, stop: tuple[str, ...]) -> str:
    """The text before the first stop text."""
    return text[: min((text.find(s) for s in stop if s in text), default=len(text))]


def _end_ids(model: Any, tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Every id that ends an answer: the model's generation settings' and the tokenizer's."""
    own = model.generation_config.eos_token_id if model.generation_config else None
    found = own if isinstance(own, list) else [own]
    return sorted({i for i in (*found, tokenizer.eos_token_id) if i is not None})


def _pad_id(model: Any, tokenizer: "PreTrainedTokenizerBase") -> int:
    """An id to fill up finished answers with; any id serves that decoding leaves out."""
    for found in (tokenizer.pad_token_id, tokenizer.eos_token_id, model.config.pad_token_id):
        if found is not None:
            return int(found)
    return 0
