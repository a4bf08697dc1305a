"""Scores: choices by likelihood, accuracy, and the metrics of relation extraction benchmarks."""

from metro_fast._extras import require

require("torch", "eval")
require("transformers", "eval")

from metro_fast.scoring.accuracy import accuracy, margins, predictions, tie_count  # noqa: E402
from metro_fast.scoring.choices import PRESETS, score_choices  # noqa: E402
from metro_fast.scoring.likelihood import target_log_probs  # noqa: E402
from metro_fast.scoring.relation_extraction import (  # noqa: E402
    MicroF1,
    SemEvalScores,
    semeval_macro_f1,
    semeval_scores,
    tacred_micro_f1,
)

__all__ = [
    "PRESETS",
    "MicroF1",
    "SemEvalScores",
    "accuracy",
    "margins",
    "predictions",
    "score_choices",
    "semeval_macro_f1",
    "semeval_scores",
    "tacred_micro_f1",
    "target_log_probs",
    "tie_count",
]
