"""The layers of METRO-T0's architecture: attention, feed-forward, blocks, and distance buckets.

The names of parameters are those of the released checkpoints.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache, EncoderDecoderCache
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from metro_fast.metro.configuration_metro_t0 import MetroT0Config


def distance_buckets(num_buckets: int, max_distance: int, max_positions: int) -> Tensor:
    """Number the buckets of all distances between two positions (COCO-LM's rule).

    With half = num_buckets / 2 and exact = half / 2, a distance d = key - query has the bucket
    sign(d) min(half - 1, f(|d|)), where f(n) = n below exact, and
    exact + ceil(ln(n / exact) / ln((max_distance - 1) / exact) (half - 1 - exact)) from there on.
    All of them are shifted, so that the smallest is 0.

    Args:
        num_buckets: Rows of the table; an even number from 4 on.
        max_distance: Distance from which all positions share a bucket.
        max_positions: Positions; distances are smaller than it.

    Returns:
        int64 [2 max_positions - 1], on the CPU; the distance d is at max_positions - 1 + d.

    Example:
        >>> distance_buckets(8, 16, 6).tolist()
        [0, 0, 0, 1, 2, 3, 4, 5, 6, 6, 6]
    """
    half = num_buckets // 2
    exact = half // 2
    distance = torch.arange(max_positions, device="cpu")
    # fp32, as the published code: the ceiling of a rounded quotient depends on the precision.
    quotient = torch.log(distance.clamp(min=exact).float() / exact)
    quotient = quotient / math.log((max_distance - 1) / exact) * (half - 1 - exact)
    far = (torch.ceil(quotient).long() + exact).clamp(max=half - 1)
    bucket = torch.where(distance < exact, distance, far)
    return torch.cat([-bucket[1:].flip(0), bucket]) + bucket[-1]


def _eager_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Attention [B, L, H, d] and its probabilities [B, H, L, K], by the textbook's formula."""
    scores = query @ key.transpose(2, 3) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    probabilities = functional.dropout(scores.softmax(-1), dropout, module.training)
    return (probabilities @ value).transpose(1, 2).contiguous(), probabilities


class MetroT0DistanceTable(nn.Embedding):
    """The bias [buckets, heads] of each distance; a class of its own, because it starts at 0."""


class MetroT0Attention(nn.Module):
    """Scaled attention whose four projections have biases.

    Args:
        config: The settings of the stack.
        layer_idx: Number of the block, which is its place in a cache.
        relative: Whether the layer has a table of distances.
        is_causal: Whether a position sees only itself and what is before it.
    """

    def __init__(
        self, config: MetroT0Config, layer_idx: int, *, relative: bool, is_causal: bool
    ) -> None:
        super().__init__()
        self.config, self.layer_idx, self.is_causal = config, layer_idx, is_causal
        self.head_width = config.d_kv
        self.scaling = self.head_width**-0.5
        width = config.num_heads * self.head_width
        self.q = nn.Linear(config.d_model, width)
        self.k = nn.Linear(config.d_model, width)
        self.v = nn.Linear(config.d_model, width)
        self.o = nn.Linear(width, config.d_model)
        if relative:
            self.relative_attention_bias = MetroT0DistanceTable(
                config.relative_attention_num_buckets, config.num_heads
            )

    def forward(
        self,
        hidden: Tensor,
        mask: Tensor | None = None,
        buckets: Tensor | None = None,
        encoded: Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend from each position of `hidden`.

        Args:
            hidden: [B, L, d_model].
            mask: With `buckets`, bool [B, 1, 1, L], true at tokens; otherwise the mask that
                transformers makes for the attention in use.
            buckets: int64 [2 L - 1], the bucket of each distance from 1 - L on (encoder only).
            encoded: [B, S, d_model], the encoder's states, for attention to the input.
            past_key_values: The cache, which is extended.
            **kwargs: For the attention function.

        Returns:
            [B, L, d_model], and the probabilities where the attention function has them.
        """
        query = self._heads(self.q(hidden))
        key, value = self._key_value(hidden, encoded, past_key_values)
        if buckets is not None:
            bias = self._distance_bias(buckets).to(query.dtype)
            mask = bias if mask is None else bias.masked_fill(~mask, torch.finfo(bias.dtype).min)
        attend: Callable[..., tuple[Tensor, Tensor | None]] = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, _eager_attention
        )
        dropout = self.config.attention_rate if self.training else 0.0
        attended, probabilities = attend(
            self, query, key, value, mask, dropout=dropout, scaling=self.scaling, **kwargs
        )
        output: Tensor = self.o(attended.flatten(2))
        return output, probabilities

    def _distance_bias(self, buckets: Tensor) -> Tensor:
        """Bias [1, H, L, L] of each pair, query first.

        The table is read once for each distance, not for each pair, which makes the backward pass a
        sum over diagonals: 11 ms against 20 at L = 512 and 12 heads on one core.
        """
        length = (len(buckets) + 1) // 2
        by_distance: Tensor = self.relative_attention_bias(buckets).T
        # Query q needs the distances from -q on, which is the window that begins at L - 1 - q.
        return by_distance.unfold(1, length, 1).flip(1)[None]

    def _heads(self, projected: Tensor) -> Tensor:
        return projected.view(*projected.shape[:-1], -1, self.head_width).transpose(1, 2)

    def _key_value(
        self, hidden: Tensor, encoded: Tensor | None, past: Cache | None
    ) -> tuple[Tensor, Tensor]:
        cache = past
        if isinstance(past, EncoderDecoderCache):
            if encoded is None:
                cache = past.self_attention_cache
            else:
                cache = past.cross_attention_cache
                if past.is_updated.get(self.layer_idx):
                    layer = cache.layers[self.layer_idx]
                    return layer.keys, layer.values
        states = hidden if encoded is None else encoded
        key, value = self._heads(self.k(states)), self._heads(self.v(states))
        if cache is not None:
            key, value = cache.update(key, value, self.layer_idx)
            if encoded is not None and isinstance(past, EncoderDecoderCache):
                past.is_updated[self.layer_idx] = True
        return key, value


class _Sublayer(nn.Module):
    """The part that all sublayers share: LayerNorm(x + dropout(f(x)))."""

    def __init__(self, config: MetroT0Config) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(config.d_model, eps=config.layer_norm_epsilon)
        self.dropout = nn.Dropout(config.dropout_rate)

    def add(self, hidden: Tensor, change: Tensor) -> Tensor:
        normed: Tensor = self.layer_norm(hidden + self.dropout(change))
        return normed


class MetroT0SelfAttention(_Sublayer):
    """Attention to the positions of the same sequence; in the encoder with distances."""

    def __init__(self, config: MetroT0Config, layer_idx: int) -> None:
        super().__init__(config)
        self.SelfAttention = MetroT0Attention(
            config, layer_idx, relative=not config.is_decoder, is_causal=config.is_decoder
        )

    def forward(self, hidden: Tensor, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        """Return new hidden states [B, L, d_model], and attention probabilities or None."""
        attended, probabilities = self.SelfAttention(hidden, **kwargs)
        return self.add(hidden, attended), probabilities


class MetroT0CrossAttention(_Sublayer):
    """Attention from the decoder to the encoder's states."""

    def __init__(self, config: MetroT0Config, layer_idx: int) -> None:
        super().__init__(config)
        self.EncDecAttention = MetroT0Attention(config, layer_idx, relative=False, is_causal=False)

    def forward(self, hidden: Tensor, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        """Return new hidden states [B, L, d_model], and attention probabilities or None."""
        attended, probabilities = self.EncDecAttention(hidden, **kwargs)
        return self.add(hidden, attended), probabilities


class MetroT0DenseActDense(nn.Module):
    """The feed-forward network: two linear layers with biases around an activation."""

    def __init__(self, config: MetroT0Config) -> None:
        super().__init__()
        self.wi = nn.Linear(config.d_model, config.d_ff)
        self.wo = nn.Linear(config.d_ff, config.d_model)
        self.act = ACT2FN[config.dense_act_fn]
        self.dropout = nn.Dropout(config.activation_dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map [B, L, d_model] to the same shape."""
        output: Tensor = self.wo(self.dropout(self.act(self.wi(hidden))))
        return output


class MetroT0FeedForward(_Sublayer):
    """The feed-forward sublayer."""

    def __init__(self, config: MetroT0Config) -> None:
        super().__init__(config)
        self.DenseReluDense = MetroT0DenseActDense(config)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map [B, L, d_model] to the same shape."""
        return self.add(hidden, self.DenseReluDense(hidden))


class MetroT0Block(GradientCheckpointingLayer):  # type: ignore[misc]  # transformers is untyped
    """One layer of the encoder, or of the decoder if `config.is_decoder`."""

    def __init__(self, config: MetroT0Config, layer_idx: int) -> None:
        super().__init__()
        sublayers: list[nn.Module] = [MetroT0SelfAttention(config, layer_idx)]
        if config.is_decoder:
            sublayers.append(MetroT0CrossAttention(config, layer_idx))
        self.layer = nn.ModuleList([*sublayers, MetroT0FeedForward(config)])

    # The tensors with gradients come by position, because recomputation asks for that.
    def forward(
        self,
        hidden: Tensor,
        encoded: Tensor | None = None,
        mask: Tensor | None = None,
        encoder_mask: Tensor | None = None,
        buckets: Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Map hidden states [B, L, d_model] to those of the next layer."""
        kwargs["past_key_values"] = past_key_values
        hidden, _ = self.layer[0](hidden, mask=mask, buckets=buckets, **kwargs)
        if encoded is not None:
            hidden, _ = self.layer[1](hidden, mask=encoder_mask, encoded=encoded, **kwargs)
        output: Tensor = self.layer[-1](hidden)
        return output
