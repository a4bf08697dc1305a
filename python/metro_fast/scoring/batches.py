"""Rows of ids in batches: sorted by length, bounded in tokens, padded; and caches for more rows."""

import copy
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from metro_fast.errors import MetroFastError

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.cache_utils import Cache

__all__ = ["MAX_LOGITS", "buckets", "cached_tokens", "forked", "pad"]

# fp32 logits of one decoder call: 2**25 elements are 128 MiB.
MAX_LOGITS = 2**25
# Keys and values of one cache: 2**27 elements are 512 MiB in fp32.
_MAX_CACHE = 2**27
# A row joins a batch if it fills this share of the longest row: padding costs as much as tokens.
_FULL = 0.75


def buckets(
    order: Sequence[int],
    lengths: Sequence[int],
    max_tokens: int,
    *,
    per_row: int = 0,
) -> Iterator[Sequence[int]]:
    """Cut an order of falling lengths into runs with few padded tokens, and little padding.

    Args:
        order: Indices of rows, the longest row first.
        lengths: Tokens of each row.
        max_tokens: Most padded tokens of a run; a longer row gets a run of its own.
        per_row: Tokens that each row has besides its own.

    Returns:
        Runs of the order.
    """
    start = 0
    while start < len(order):
        longest = lengths[order[start]]
        size = max_tokens // max(longest + per_row, 1)
        end = start + 1
        while end < min(start + size, len(order)) and lengths[order[end]] >= longest * _FULL:
            end += 1
        yield order[start:end]
        start = end


def pad(
    rows: Sequence[Sequence[int]], device: torch.device, side: str = "right"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad rows of ids to int64 [B, L], with an int64 mask [B, L] that is 0 at padding."""
    width = max(map(len, rows))
    # Padding may have any id, since the mask hides it.
    ids, mask = [], []
    for row in rows:
        gap = [0] * (width - len(row))
        ids.append([*row, *gap] if side == "right" else [*gap, *row])
        ones = [1] * len(row)
        mask.append(ones + gap if side == "right" else gap + ones)
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def cached_tokens(model: "PreTrainedModel") -> int:
    """How many tokens a cache of the decoder may hold."""
    config = model.config.get_text_config(decoder=True)
    layers = getattr(config, "num_decoder_layers", None) or config.num_hidden_layers
    width = config.hidden_size
    # Grouped heads share keys and values: SmolLM2-135M caches 3 heads of 9, a third of its width.
    shared = getattr(config, "num_key_value_heads", None)
    if shared:
        head = getattr(config, "head_dim", None) or width // config.num_attention_heads
        width = shared * head
    return int(max(1, _MAX_CACHE // (2 * layers * width)))


def forked(cache: "Cache", rows: torch.Tensor) -> "Cache":
    """A cache whose batch consists of the given rows of another one, which stays as it is.

    Args:
        cache: A cache of transformers with dynamic layers, or one of an encoder-decoder.
        rows: Int64 [R], rows of the cache; a row may come several times.

    Returns:
        The new cache.
    """
    new = copy.copy(cache)
    if hasattr(cache, "cross_attention_cache"):
        new.self_attention_cache = forked(cache.self_attention_cache, rows)
        new.cross_attention_cache = forked(cache.cross_attention_cache, rows)
        new.is_updated = dict(cache.is_updated)
        return new
    new.layers = []
    for layer in cache.layers:
        # Shallow: an update concatenates, and never writes into the tensors of the old layer.
        twin = copy.copy(layer)
        if getattr(layer, "keys", None) is None:
            raise MetroFastError(
                f"the model caches a {type(layer).__name__}, which holds no keys and values that "
                "several answers could share; score a model with attention in every layer"
            )
        twin.keys = layer.keys.index_select(0, rows)
        twin.values = layer.values.index_select(0, rows)
        new.layers.append(twin)
    return new
