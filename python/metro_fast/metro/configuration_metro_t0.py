"""The settings of METRO-T0's released architecture."""

import math
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Literal

from transformers import PreTrainedConfig

from metro_fast._ranges import check_above_zero, check_at_least, check_choice, check_fraction
from metro_fast.errors import MetroFastError

Initializer = Literal["xavier", "published", "bert"]
INITIALIZERS: tuple[Initializer, ...] = ("xavier", "published", "bert")

_BASE = {"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12}
_LARGE = {
    "d_model": 1024,
    "d_ff": 4096,
    "num_layers": 24,
    "num_heads": 16,
    "relative_attention_num_buckets": 128,
    "relative_attention_max_distance": 256,
}
_CASED = {"vocab_size": 64512}
PRESETS: Mapping[str, Mapping[str, int]] = {
    "small": {"d_model": 512, "d_ff": 2048, "num_layers": 6, "num_heads": 8},
    "base": _BASE,
    "base++": {**_BASE, **_CASED},
    "large": _LARGE,
    "large++": {**_LARGE, **_CASED},
}
"""Sizes of the published models; those with "++" have the vocabulary of 64,512 ids."""


class MetroT0Config(PreTrainedConfig):  # type: ignore[misc]  # transformers is untyped
    """Settings of `MetroT0ForConditionalGeneration` (METRO-T0, arXiv 2305.12567).

    Fields that mean the same as in `T5Config` have its names. The defaults are those of the base
    model. Ids follow fairseq: beginning of text 0, padding 1, end of text 2, unknown 3.

    Attributes:
        vocab_size: Number of token ids; 33,280 is the vocabulary of 32,768 and 512 sentinels.
        d_model: Width of the hidden states.
        d_kv: Width of one attention head; d_model / num_heads unless it is given.
        d_ff: Width of the feed-forward layers.
        num_layers: Layers of the encoder.
        num_decoder_layers: Layers of the decoder; as many as the encoder's unless given.
        num_heads: Attention heads of each layer.
        relative_attention_num_buckets: Rows of each encoder layer's table of distances, an even
            number from 4 on.
        relative_attention_max_distance: Distance from which all positions share the last bucket.
        max_position_embeddings: Tokens that the learned positions reach.
        dropout_rate: Dropout of embeddings and of the output of each sublayer.
        attention_dropout: Dropout of attention probabilities; None for `dropout_rate`.
        activation_dropout: Dropout between the two feed-forward layers.
        layer_norm_epsilon: Added to the variance in each LayerNorm.
        dense_act_fn: Activation of the feed-forward layers.
        initializer: Start of the weights: "xavier" draws linear layers with the variance
            1 / (inputs + outputs) that the published code describes, "published" with the
            1 / (2 outputs) that it computes by mistake; both draw embeddings uniformly with the
            variance 1 / (2 d_model). "bert" draws all from N(0, initializer_range^2), as METRO's
            auxiliary model. Tables of distances start at 0 in each of them.
        initializer_range: Standard deviation of "bert".
        decoder_start_token_id: First token of the decoder: 2 in finetuning, and the first sentinel
            in METRO's pretraining, where it has to be set.

    Raises:
        MetroFastError: If a number is out of range or a name is unknown.

    Example:
        >>> config = MetroT0Config.preset("large++", dropout_rate=0.0)
        >>> config.d_model, config.num_decoder_layers, config.d_kv, config.vocab_size
        (1024, 24, 64, 64512)
    """

    model_type = "metro_t0"
    keys_to_ignore_at_inference = ["past_key_values"]  # noqa: RUF012 (transformers' convention)
    attribute_map = {  # noqa: RUF012
        "hidden_size": "d_model",
        "num_attention_heads": "num_heads",
        "num_hidden_layers": "num_layers",
        "head_dim": "d_kv",
    }

    vocab_size: int = 33280
    d_model: int = 768
    d_kv: Any = None
    d_ff: int = 3072
    num_layers: int = 12
    num_decoder_layers: Any = None
    num_heads: int = 12
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    max_position_embeddings: int = 1024
    dropout_rate: float = 0.1
    attention_dropout: float | None = None
    activation_dropout: float = 0.0
    layer_norm_epsilon: float = 1e-5
    dense_act_fn: str = "relu"
    initializer: str = "xavier"
    initializer_range: float = 0.02
    is_encoder_decoder: bool = True
    is_decoder: bool = False
    use_cache: bool = True
    tie_word_embeddings: bool = True
    bos_token_id: int | None = 0
    pad_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    decoder_start_token_id: int | None = 2

    def __post_init__(self, **kwargs: Any) -> None:
        if self.num_decoder_layers is None:
            self.num_decoder_layers = self.num_layers
        if self.d_kv is None:
            if self.num_heads < 1 or self.d_model % self.num_heads:
                raise MetroFastError(
                    f"num_heads is {self.num_heads}, expected a divisor of d_model {self.d_model}; "
                    "set d_kv for heads of another width"
                )
            self.d_kv = self.d_model // self.num_heads
        super().__post_init__(**kwargs)
        self.check()

    @property
    def attention_rate(self) -> float:
        """Dropout of attention probabilities."""
        return self.dropout_rate if self.attention_dropout is None else self.attention_dropout

    @classmethod
    def preset(cls, name: str, **settings: Any) -> "MetroT0Config":
        """Make the settings of a published size.

        Args:
            name: "small", "base", "base++", "large" or "large++".
            **settings: Fields with other values than the preset's.

        Raises:
            MetroFastError: If there is no preset of that name.
        """
        check_choice(tuple(PRESETS), preset=name)
        return cls(**{**PRESETS[name], **settings})

    def check(self) -> None:
        """Check the numbers and names.

        Raises:
            MetroFastError: If a number is out of range or a name is unknown.
        """
        sizes = ("d_model", "d_kv", "d_ff", "num_layers", "num_heads", "max_position_embeddings")
        check_at_least(1, **{name: getattr(self, name) for name in sizes})
        check_at_least(4, vocab_size=self.vocab_size)
        check_at_least(0, num_decoder_layers=self.num_decoder_layers)
        check_fraction(
            dropout_rate=self.dropout_rate,
            attention_dropout=self.attention_rate,
            activation_dropout=self.activation_dropout,
        )
        check_above_zero(
            layer_norm_epsilon=self.layer_norm_epsilon, initializer_range=self.initializer_range
        )
        check_choice(INITIALIZERS, initializer=self.initializer)
        buckets, furthest = (
            self.relative_attention_num_buckets,
            self.relative_attention_max_distance,
        )
        if buckets < 4 or buckets % 2:
            raise MetroFastError(
                f"relative_attention_num_buckets is {buckets}, expected an even number from 4 on"
            )
        if furthest <= buckets // 4 + 1:
            raise MetroFastError(
                f"relative_attention_max_distance is {furthest}, expected more than "
                f"{buckets // 4 + 1}, a quarter of the {buckets} buckets and 1"
            )
        if not self.tie_word_embeddings:
            raise MetroFastError(
                "tie_word_embeddings is False, but this architecture has one matrix for both "
                "embeddings and the output; leave the option out"
            )

    def for_stack(self, *, decoder: bool) -> "MetroT0Config":
        """Copy the settings for one of the two stacks, whose depth is then `num_layers`."""
        copy = deepcopy(self)
        copy.is_decoder = decoder
        copy.use_cache = decoder and self.use_cache
        if decoder:
            copy.num_layers = self.num_decoder_layers
        return copy

    def get_text_config(
        self, decoder: bool | None = None, encoder: bool | None = None
    ) -> "MetroT0Config":
        """Return these settings; with `decoder` alone, those of the decoder.

        `generate` makes a cache of as many layers as this says, and would take the encoder's depth.
        """
        return self.for_stack(decoder=True) if decoder and not encoder else self

    def linear_std(self, inputs: int, outputs: int) -> float:
        """Compute the standard deviation that a linear layer's weights start with.

        Example:
            >>> round(MetroT0Config().linear_std(768, 3072), 5)
            0.01614
        """
        if self.initializer == "bert":
            return self.initializer_range
        fan_in = outputs if self.initializer == "published" else inputs
        return math.sqrt(1 / (fan_in + outputs))
