"""Prompted finetuning of seq2seq models: all weights, or a LoRA adapter."""

from metro_fast._extras import require

require("torch", "train")
require("transformers", "train")
require("accelerate", "train")

from metro_fast.tuning.from_files import FinetuneConfig, finetune  # noqa: E402
from metro_fast.tuning.options import TuningOptions  # noqa: E402
from metro_fast.tuning.pair_loss import PairLoss, read_pairs  # noqa: E402
from metro_fast.tuning.seq2seq import finetune_model  # noqa: E402

__all__ = [
    "FinetuneConfig",
    "PairLoss",
    "TuningOptions",
    "finetune",
    "finetune_model",
    "read_pairs",
]
