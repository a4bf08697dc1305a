"""The settings of a pretraining run, checked before any work."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from metro_fast._ranges import check_at_least, check_choice, check_fraction, check_share
from metro_fast._training.schedule import Schedule
from metro_fast.metro.options import MetroOptions

ObjectiveName = Literal["metro", "span"]


@dataclass(frozen=True, kw_only=True, repr=False)
class PretrainConfig(MetroOptions, Schedule):
    """Pretrain a T5 on a prepared corpus: METRO, or span corruption as the baseline.

    Attributes:
        corpus: Folder of a tokenized corpus (`metro-fast prepare`).
        output: Folder for the models, checkpoints and metrics.jsonl.
        tokenizer: Folder of the tokenizer that made the corpus; by default `tokenizer` in it.
        objective: "metro" (METRO-T0) or "span" (T5's span corruption).
        auxiliary_num_layers: Layers of the auxiliary encoder.
        d_model: Width of the model.
        d_kv: Width of an attention head.
        d_ff: Width of the feed-forward layers.
        num_layers: Encoder layers.
        num_decoder_layers: Decoder layers.
        num_heads: Attention heads.
        feed_forward: "relu", "gated-gelu", or another that T5 knows.
        dropout: Dropout of the main model.
        mask_probability: Share of tokens that METRO masks.
        noise_density: Share of tokens that span corruption removes.
        mean_span_length: Mean length of the spans that it removes.
        block_size: Tokens per row.
        evaluation_rows: Rows held out, evenly spread over the corpus.
        num_threads: CPU threads; 0 leaves torch's choice.
        num_workers: Processes that make batches beside the training process.
        resume: Continue the run in the output folder.
    """

    corpus: Path
    output: Path
    tokenizer: Path | None = None
    objective: ObjectiveName = "metro"
    auxiliary_num_layers: int = 4
    d_model: int = 768
    d_kv: int = 64
    d_ff: int = 3072
    num_layers: int = 12
    num_decoder_layers: int = 12
    num_heads: int = 12
    feed_forward: str = "relu"
    dropout: float = 0.1
    mask_probability: float = 0.15
    noise_density: float = 0.15
    mean_span_length: float = 3.0
    block_size: int = 512
    evaluation_rows: int = 128
    num_threads: int = 0
    num_workers: int = 0
    resume: bool = False
    # Other defaults than finetuning's.
    steps: int = 10_000
    batch_size: int = 16
    learning_rate: float = 4e-4
    warmup_steps: int = 1000
    weight_decay: float = 0.01
    save_steps: int = 1000

    __repr__ = Schedule.__repr__  # not that of MetroOptions

    def __post_init__(self) -> None:
        MetroOptions.__post_init__(self)
        Schedule.__post_init__(self)
        check_choice(get_args(ObjectiveName), objective=self.objective)
        check_at_least(
            1,
            auxiliary_num_layers=self.auxiliary_num_layers,
            d_model=self.d_model,
            d_kv=self.d_kv,
            d_ff=self.d_ff,
            num_layers=self.num_layers,
            num_decoder_layers=self.num_decoder_layers,
            num_heads=self.num_heads,
            evaluation_rows=self.evaluation_rows,
            mean_span_length=self.mean_span_length,
        )
        check_at_least(8, block_size=self.block_size)
        check_at_least(0, num_threads=self.num_threads, num_workers=self.num_workers)
        check_share(mask_probability=self.mask_probability, noise_density=self.noise_density)
        check_fraction(dropout=self.dropout)
