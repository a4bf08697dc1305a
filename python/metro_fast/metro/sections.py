"""The sections of a pretraining run: model, auxiliary model and data."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from metro_fast._ranges import check_at_least, check_fraction
from metro_fast.errors import MetroFastError
from metro_fast.metro.options import EmbeddingSharing, MetroOptions, SamplingMode
from metro_fast.metro.settings import Section

ModelType = Literal["t5", "mt5", "umt5", "metro_t0"]


@dataclass(frozen=True, kw_only=True, repr=False)
class ModelSection(Section):
    """The main model of a run that starts from new weights. The defaults are T5 base's sizes.

    Attributes:
        type: Architecture: "t5", "mt5" or "umt5" of transformers, or "metro_t0", the released
            architecture of METRO-T0.
        d_model: Width of the model.
        d_kv: Width of an attention head.
        d_ff: Width of the feed-forward layers.
        num_layers: Encoder layers.
        num_decoder_layers: Decoder layers; as many as the encoder's unless given.
        num_heads: Attention heads.
        feed_forward: "relu", "gated-gelu" (not for metro_t0), or another that the architecture
            knows.
        dropout: Dropout of the main model.
        relative_attention_num_buckets: Rows of a table of relative positions.
        relative_attention_max_distance: Distance from which all positions share the last row.
        vocab_multiple: The vocabulary is padded with unused ids to a multiple of this.
        attn_implementation: Attention of transformers, such as "sdpa" or "eager"; its own choice
            unless given.
    """

    type: ModelType = "t5"
    d_model: int = 768
    d_kv: int = 64
    d_ff: int = 3072
    num_layers: int = 12
    num_decoder_layers: int | None = None
    num_heads: int = 12
    feed_forward: str = "relu"
    dropout: float = 0.1
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    vocab_multiple: int = 1
    attn_implementation: str | None = None

    def __post_init__(self) -> None:
        check_at_least(
            1,
            d_model=self.d_model,
            d_kv=self.d_kv,
            d_ff=self.d_ff,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            relative_attention_num_buckets=self.relative_attention_num_buckets,
            relative_attention_max_distance=self.relative_attention_max_distance,
            vocab_multiple=self.vocab_multiple,
        )
        if self.num_decoder_layers is not None:
            check_at_least(1, num_decoder_layers=self.num_decoder_layers)
        check_fraction(dropout=self.dropout)


@dataclass(frozen=True, kw_only=True, repr=False)
class LoadedModelSection(Section):
    """The section `model` of a run with `init`: the loaded model has its own sizes.

    Attributes:
        attn_implementation: Attention of transformers, such as "sdpa" or "eager"; its own choice
            unless given.
    """

    attn_implementation: str | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class AuxiliarySection(Section):
    """The auxiliary model of METRO, and the draws from it.

    `MetroOptions` explains the settings from `embedding_sharing` on; there `frozen_from` and
    `dropped_from` carry the prefix `auxiliary_`.

    Attributes:
        init: Start of its weights if the run has `init`: the main model's "first_layers", "random",
            or the folder or Hub name of an encoder; "first_layers" unless given. Without `init`
            they are random.
        num_layers: Its layers; 4 unless given, or all if it starts from fewer. The widths are the
            main model's.
        dropout_rate: Its dropout.
    """

    init: str | None = None
    num_layers: int | None = None
    dropout_rate: float = 0.0
    embedding_sharing: EmbeddingSharing = MetroOptions.embedding_sharing
    sampling_mode: SamplingMode = MetroOptions.sampling_mode
    sampling_temperature: float = MetroOptions.sampling_temperature
    sampling_top_k: int | None = MetroOptions.sampling_top_k
    exclude_original: bool = MetroOptions.exclude_original
    frozen_from: int | None = MetroOptions.auxiliary_frozen_from
    dropped_from: int | None = MetroOptions.auxiliary_dropped_from

    def __post_init__(self) -> None:
        if self.num_layers is not None:
            check_at_least(1, num_layers=self.num_layers)
        check_fraction(dropout_rate=self.dropout_rate)


AUXILIARY_OPTIONS = {
    name: option
    for name in (field.name for field in fields(AuxiliarySection))
    for option in (name, f"auxiliary_{name}")
    if option in {field.name for field in fields(MetroOptions)}
}
"""Settings of the section by name, and the options of `MetroOptions` that they set."""


@dataclass(frozen=True, kw_only=True, repr=False)
class DataSection(Section):
    """The corpus, its tokenizer, and the rows that are held out.

    Attributes:
        corpus: Folder of a tokenized corpus (`metro-fast prepare`).
        tokenizer: Folder of the tokenizer that made the corpus; by default `tokenizer` in it.
        evaluation_corpus: Folder of another corpus, made with the same tokenizer, whose rows are
            evaluated; by default rows of `corpus` are held out.
        evaluation_rows: Rows that are evaluated, evenly spread over their corpus; 0 for no
            evaluation.
        block_size: Tokens per row.
        num_workers: Processes that make batches beside the training process.
    """

    corpus: Path
    tokenizer: Path | None = None
    evaluation_corpus: Path | None = None
    evaluation_rows: int = 128
    block_size: int = 512
    num_workers: int = 0

    def __post_init__(self) -> None:
        check_at_least(8, block_size=self.block_size)
        check_at_least(0, evaluation_rows=self.evaluation_rows, num_workers=self.num_workers)
        if self.evaluation_corpus is not None and not self.evaluation_rows:
            raise MetroFastError(
                "data.evaluation_corpus is given, but data.evaluation_rows is 0, so that nothing "
                "is evaluated: leave one of them out"
            )


def section_values(section: Any) -> dict[str, Any]:
    """The settings of a section by name, as YAML and comparisons take them."""
    return {field.name: getattr(section, field.name) for field in fields(section)}
