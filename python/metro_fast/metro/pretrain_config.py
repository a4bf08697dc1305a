"""The settings of a pretraining run, checked before any work."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from metro_fast.errors import MetroFastError

OBJECTIVES = ("metro", "span")


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Pretrain a T5 on a prepared corpus: METRO, or span corruption as the baseline.

    Attributes:
        corpus: Folder of a tokenized corpus (`metro-fast prepare`).
        output: Folder for the models, checkpoints and metrics.jsonl.
        tokenizer: Folder of the tokenizer that made it; by default `tokenizer` in the corpus.
        objective: "metro" (METRO-T0) or "span" (T5's span corruption).
        d_model: Width of the model.
        d_kv: Width of an attention head.
        d_ff: Width of the feed-forward layers.
        num_layers: Encoder layers.
        num_decoder_layers: Decoder layers.
        num_heads: Attention heads.
        feed_forward: "relu", "gated-gelu", or another that T5 knows.
        dropout: Dropout of the main model.
        auxiliary_num_layers: Layers of METRO's auxiliary encoder.
        embedding_sharing: What it shares with the main model: none, token, token_rel_norm.
        rtd_head: Replaced-token detection: encoder or none.
        decoding_target: Positions of the decoder's loss: all_masked_loss or all.
        mlm_weight: Weight of the auxiliary model's loss.
        lm_weight: Weight of the decoder's loss.
        rtd_weight: Weight of replaced-token detection.
        sampling_temperature: Temperature of the replacements.
        mask_probability: Share of tokens that METRO masks.
        noise_density: Share of tokens that span corruption removes.
        mean_span_length: Mean length of its spans.
        block_size: Tokens of a row.
        steps: Optimizer steps.
        batch_size: Rows a forward pass and rank.
        accumulation_steps: Forward passes an optimizer step.
        learning_rate: Peak rate; it rises linearly, then falls linearly to 0.
        warmup_steps: Steps of the rise.
        weight_decay: AdamW's decay of matrices.
        embedding_multiplier: Rate of the token embeddings over learning_rate.
        relative_bias_multiplier: Rate of the relative attention biases over learning_rate.
        max_grad_norm: Gradients are clipped to this norm; 0 for no clipping.
        bf16: Whether to compute in bfloat16 (autocast).
        evaluation_rows: Rows held out, evenly spread over the corpus.
        logging_steps: Steps between log lines.
        evaluation_steps: Steps between evaluations; 0 evaluates at the end only.
        save_steps: Steps between checkpoints; 0 saves none on the way.
        seed: Seed of weights, order, masks and draws.
        num_threads: CPU threads; 0 leaves torch's choice.
        num_workers: Processes that make batches beside the training process.
        resume: Continue the run that output holds.
    """

    corpus: Path
    output: Path
    tokenizer: Path | None = None
    objective: str = "metro"
    d_model: int = 768
    d_kv: int = 64
    d_ff: int = 3072
    num_layers: int = 12
    num_decoder_layers: int = 12
    num_heads: int = 12
    feed_forward: str = "relu"
    dropout: float = 0.1
    auxiliary_num_layers: int = 4
    embedding_sharing: str = "token"
    rtd_head: str = "encoder"
    decoding_target: str = "all_masked_loss"
    mlm_weight: float = 1.0
    lm_weight: float = 1.0
    rtd_weight: float = 50.0
    sampling_temperature: float = 1.0
    mask_probability: float = 0.15
    noise_density: float = 0.15
    mean_span_length: float = 3.0
    block_size: int = 512
    steps: int = 10_000
    batch_size: int = 16
    accumulation_steps: int = 1
    learning_rate: float = 4e-4
    warmup_steps: int = 1000
    weight_decay: float = 0.01
    embedding_multiplier: float = 1.0
    relative_bias_multiplier: float = 1.0
    max_grad_norm: float = 1.0
    bf16: bool = False
    evaluation_rows: int = 128
    logging_steps: int = 50
    evaluation_steps: int = 0
    save_steps: int = 1000
    seed: int = 0
    num_threads: int = 0
    num_workers: int = 0
    resume: bool = field(default=False)

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise MetroFastError(
                f"objective is {self.objective!r}, expected {' or '.join(OBJECTIVES)}"
            )
        at_least_one = (
            "d_model d_kv d_ff num_layers num_decoder_layers num_heads auxiliary_num_layers "
            "steps batch_size accumulation_steps evaluation_rows logging_steps"
        )
        for name in at_least_one.split():
            if getattr(self, name) < 1:
                raise MetroFastError(f"{name} is {getattr(self, name)}, expected at least 1")
        not_negative = "warmup_steps evaluation_steps save_steps num_threads num_workers"
        for name in not_negative.split():
            if getattr(self, name) < 0:
                raise MetroFastError(f"{name} is {getattr(self, name)}, expected at least 0")
        if self.block_size < 8:
            raise MetroFastError(f"block_size is {self.block_size}, expected at least 8 tokens")
        for name in ("mask_probability", "noise_density"):
            if not 0 < getattr(self, name) < 1:
                raise MetroFastError(f"{name} is {getattr(self, name)}, expected in (0, 1)")
        for name in ("learning_rate", "embedding_multiplier", "relative_bias_multiplier"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise MetroFastError(f"{name} is {value}, expected a finite number above 0")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise MetroFastError(f"weight_decay is {self.weight_decay}, expected at least 0")
        if not (self.mean_span_length >= 1 and 0 <= self.dropout < 1 and self.max_grad_norm >= 0):
            raise MetroFastError(
                f"mean_span_length {self.mean_span_length}, dropout {self.dropout}, max_grad_norm "
                f"{self.max_grad_norm}: expected >= 1, in [0, 1), >= 0"
            )
        if not 0 <= self.seed < 2**32:
            raise MetroFastError(f"seed is {self.seed}, expected 0 <= seed < 2**32")
