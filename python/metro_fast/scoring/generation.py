"""Answers that a model writes: greedy, in batches, up to a stop text.

The loop is our own, over the calls that also score choices. `generate` of transformers fills every
setting that is left open from the model's generation settings, a repetition penalty for example, so
that its greedy search is not the same for all models.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from metro_fast.scoring.batches import buckets, cached_tokens
from metro_fast.scoring.decoders import Decoder
from metro_fast.scoring.protocol import Protocol

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["end_ids", "written_answers"]


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

    An answer ends before an end token of the model or the tokenizer, and before a stop text.

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
    texts = [""] * len(contexts)
    lengths = [len(context) for context in contexts]
    order = sorted(range(len(contexts)), key=lambda i: (-lengths[i], tuple(contexts[i])))
    most = min(max_batch_tokens, cached_tokens(decoder.model))
    ends = end_ids(decoder.model, tokenizer)
    for rows in buckets(order, lengths, most, per_row=protocol.max_new_tokens):
        batch = [contexts[i] for i in rows]
        for i, text in zip(rows, _write(decoder, tokenizer, batch, protocol, ends), strict=True):
            texts[i] = text
        bar.update(len(rows))
    return texts


def _write(
    decoder: Decoder,
    tokenizer: "PreTrainedTokenizerBase",
    contexts: Sequence[Sequence[int]],
    protocol: Protocol,
    ends: set[int],
) -> list[str]:
    """The answers of one batch."""
    started = decoder.start(contexts, cache=True)
    cache, logits = started.cache, started.logits
    rows = torch.arange(len(contexts), device=logits.device)
    written: list[list[int]] = [[] for _ in contexts]
    open_rows = set(range(len(contexts)))
    for depth in range(protocol.max_new_tokens):
        chosen = logits.argmax(-1)
        for row, token in enumerate(chosen.tolist()):
            if row in open_rows and token in ends:
                open_rows.remove(row)
            elif row in open_rows:
                written[row].append(token)
                if protocol.stop:
                    text = tokenizer.decode(written[row], skip_special_tokens=True)
                    open_rows -= {row} if any(stop in text for stop in protocol.stop) else set()
        if not open_rows or depth + 1 == protocol.max_new_tokens:
            break
        assert cache is not None
        # Rows that have ended read on, since leaving them out would copy the cache.
        step, cache = decoder.read(started, cache, rows, chosen.unsqueeze(1), depth)
        logits = step[:, -1]
    texts = tokenizer.batch_decode(written, skip_special_tokens=True)
    return [_until(text, protocol.stop) for text in texts]


def _until(text: str, stop: tuple[str, ...]) -> str:
    """The text before the first stop text."""
    return text[: min((text.find(s) for s in stop if s in text), default=len(text))]


def end_ids(model: Any, tokenizer: "PreTrainedTokenizerBase") -> set[int]:
    """Every id that ends an answer: the model's generation settings' and the tokenizer's."""
    own = model.generation_config.eos_token_id if model.generation_config else None
    found = own if isinstance(own, list) else [own]
    return {i for i in (*found, tokenizer.eos_token_id) if i is not None}
