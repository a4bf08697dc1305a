"""METRO-T0's encoder and decoder, and the start of their weights."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, initialization
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask
from transformers.modeling_outputs import (
    BaseModelOutput,
    BaseModelOutputWithPastAndCrossAttentions,
)
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from metro_fast.errors import MetroFastError
from metro_fast.metro.configuration_metro_t0 import MetroT0Config
from metro_fast.metro.modeling_metro_t0_layers import (
    MetroT0Block,
    MetroT0CrossAttention,
    MetroT0DistanceTable,
    MetroT0SelfAttention,
    distance_buckets,
)

PADDING_ROW = 1
"""Row of `pos_embed` at padding, which stays 0. Tokens have the rows from 2 on: fairseq counts
positions from the id of padding."""


class MetroT0PreTrainedModel(PreTrainedModel):  # type: ignore[misc]  # transformers is untyped
    """The common part of the models and stacks: loading, and the start of weights."""

    config_class = MetroT0Config
    base_model_prefix = "transformer"
    supports_gradient_checkpointing = True
    _no_split_modules = ["MetroT0Block"]  # noqa: RUF012 (transformers' own convention)
    _supports_sdpa = True
    _supports_flash_attn = False
    _supports_flex_attn = False
    _can_compile_fullgraph = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, MetroT0DistanceTable):
            initialization.zeros_(module.weight)
        elif isinstance(module, nn.Linear) and module.bias is not None:
            std = self.config.linear_std(module.in_features, module.out_features)
            initialization.normal_(module.weight, std=std)
            initialization.zeros_(module.bias)
        elif isinstance(module, nn.Embedding) and self.config.initializer != "bert":
            bound = math.sqrt(3 / (2 * self.config.d_model))
            initialization.uniform_(module.weight, -bound, bound)
            # A loaded weight carries this mark, which its row does not.
            if not getattr(module.weight, "_is_hf_initialized", False):
                initialization.zeros_(module.weight[module.padding_idx])
        elif isinstance(module, MetroT0Encoder):
            initialization.copy_(module.distance_buckets, module.make_distance_buckets())
        else:
            super()._init_weights(module)


class _Stack(MetroT0PreTrainedModel):
    """Embeddings, learned positions, a LayerNorm, and the blocks after them."""

    def __init__(self, config: MetroT0Config) -> None:
        super().__init__(config)
        self.embed_tokens: nn.Module = nn.Embedding(
            config.vocab_size, config.d_model, padding_idx=config.pad_token_id
        )
        self.pos_embed = nn.Embedding(
            PADDING_ROW + 1 + config.max_position_embeddings,
            config.d_model,
            padding_idx=PADDING_ROW,
        )
        self.first_layer_norm = nn.LayerNorm(config.d_model, eps=config.layer_norm_epsilon)
        self.dropout = nn.Dropout(config.dropout_rate)
        self.block = nn.ModuleList([MetroT0Block(config, i) for i in range(config.num_layers)])
        self.gradient_checkpointing = False

    def get_input_embeddings(self) -> nn.Module:
        """Return the token embedding."""
        return self.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the token embedding."""
        self.embed_tokens = value

    def _tokens(self, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        if (input_ids is None) == (inputs_embeds is None):
            given = "neither" if input_ids is None else "both"
            raise MetroFastError(f"{given} of input_ids and inputs_embeds given, expected one")
        tokens: Tensor = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        return tokens

    def _embed(self, tokens: Tensor, attention_mask: Tensor | None, past: Any = 0) -> Tensor:
        """Add positions to token embeddings [B, L, d_model], of which `past` tokens came before."""
        length = tokens.shape[1]
        if not torch.compiler.is_compiling() and past + length > (
            most := self.config.max_position_embeddings
        ):
            raise MetroFastError(
                f"the sequence has {past + length} tokens, but the learned positions end at "
                f"{most}; cut it, or train with a larger max_position_embeddings"
            )
        if attention_mask is None:
            rows = torch.arange(length, device=tokens.device) + (past + PADDING_ROW + 1)
        else:
            self._check_mask(attention_mask)
            mask = attention_mask.long()
            rows = (mask.cumsum(1) * mask + PADDING_ROW)[:, -length:]
        embedded: Tensor = self.dropout(self.first_layer_norm(tokens + self.pos_embed(rows)))
        return embedded

    def _check_mask(self, attention_mask: Tensor) -> None:
        if attention_mask.dim() != 2:
            raise MetroFastError(
                f"attention_mask has the shape {tuple(attention_mask.shape)}, expected "
                "[batch, length]: positions are counted from it"
            )


class MetroT0Encoder(_Stack):
    """The encoder: every block has its own table of distances.

    Args:
        config: The settings; `num_layers` blocks.
    """

    _can_record_outputs = {  # noqa: RUF012
        "hidden_states": MetroT0Block,
        "attentions": OutputRecorder(MetroT0SelfAttention, index=1),
    }

    def __init__(self, config: MetroT0Config) -> None:
        super().__init__(config)
        self.register_buffer("distance_buckets", self.make_distance_buckets(), persistent=False)
        self.post_init()

    def make_distance_buckets(self) -> Tensor:
        """Number the bucket of each distance: int64 [2 max_position_embeddings - 1]."""
        return distance_buckets(
            self.config.relative_attention_num_buckets,
            self.config.relative_attention_max_distance,
            self.config.max_position_embeddings,
        )

    @merge_with_config_defaults  # type: ignore[untyped-decorator]
    @capture_outputs  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """Encode a batch.

        Args:
            input_ids: int64 [B, L].
            attention_mask: [B, L], 1 at tokens and 0 at padding, which may be on either side;
                without it all are tokens, whatever their ids.
            inputs_embeds: [B, L, d_model], instead of `input_ids`.
            **kwargs: Outputs to return, by transformers' names.

        Returns:
            Hidden states [B, L, d_model]; those of padding have no meaning.

        Raises:
            MetroFastError: If the sequence is longer than the learned positions, or the mask has
                another shape.
        """
        tokens = self._tokens(input_ids, inputs_embeds)
        hidden = self._embed(tokens, attention_mask)
        length, most = hidden.shape[1], self.config.max_position_embeddings
        buckets = self.distance_buckets[most - length : most + length - 1]
        mask = None if attention_mask is None else attention_mask.bool()[:, None, None, :]
        for block in self.block:
            hidden = block(hidden, None, mask, None, buckets, **kwargs)
        return BaseModelOutput(last_hidden_state=hidden)


class MetroT0Decoder(_Stack):
    """The decoder: causal, without tables of distances.

    Args:
        config: The settings, with `is_decoder`; `num_layers` blocks.
    """

    _can_record_outputs = {  # noqa: RUF012
        "hidden_states": MetroT0Block,
        "attentions": OutputRecorder(MetroT0SelfAttention, index=1),
        "cross_attentions": OutputRecorder(MetroT0CrossAttention, index=1),
    }

    def __init__(self, config: MetroT0Config) -> None:
        super().__init__(config)
        self.post_init()

    @merge_with_config_defaults  # type: ignore[untyped-decorator]
    @capture_outputs  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        """Decode a batch, or the next tokens of it.

        Args:
            input_ids: int64 [B, L], the tokens that the cache does not hold.
            attention_mask: [B, cached + L], 1 at tokens; without it all are tokens.
            encoder_hidden_states: [B, S, d_model].
            encoder_attention_mask: [B, S], 1 at tokens.
            past_key_values: The cache, which is extended.
            inputs_embeds: [B, L, d_model], instead of `input_ids`.
            use_cache: Whether to make a cache if none is given.
            **kwargs: Outputs to return, by transformers' names.

        Returns:
            Hidden states [B, L, d_model], and the cache.

        Raises:
            MetroFastError: If the sequence is longer than the learned positions, the mask has
                another shape, or the encoder's states are missing.
        """
        if encoder_hidden_states is None:
            raise MetroFastError(
                "encoder_hidden_states is missing, expected the encoder's states [B, S, d_model]"
            )
        tokens = self._tokens(input_ids, inputs_embeds)
        if use_cache and past_key_values is None:
            past_key_values = EncoderDecoderCache(
                DynamicCache(config=self.config), DynamicCache(config=self.config)
            )
        past = past_key_values.get_seq_length() if past_key_values is not None else 0
        hidden = self._embed(tokens, attention_mask, past)
        mask = create_causal_mask(
            config=self.config,
            inputs_embeds=tokens,
            attention_mask=attention_mask,
            past_key_values=past_key_values.self_attention_cache
            if isinstance(past_key_values, EncoderDecoderCache)
            else past_key_values,
        )
        encoder_mask = create_bidirectional_mask(
            config=self.config,
            inputs_embeds=tokens,
            attention_mask=encoder_attention_mask,
            encoder_hidden_states=encoder_hidden_states,
        )
        for block in self.block:
            hidden = block(
                hidden,
                encoder_hidden_states,
                mask,
                encoder_mask,
                past_key_values=past_key_values,
                **kwargs,
            )
        return BaseModelOutputWithPastAndCrossAttentions(
            last_hidden_state=hidden, past_key_values=past_key_values
        )
