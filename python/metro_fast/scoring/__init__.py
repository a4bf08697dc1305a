"""Answers of any model: choices by likelihood or by generation, accuracy, relation extraction."""

from typing import TYPE_CHECKING

from metro_fast._extras import on_first_use
from metro_fast.scoring.accuracy import accuracy, margins, predictions, tie_count
from metro_fast.scoring.label_matching import match_label, normalized_text
from metro_fast.scoring.metrics import METRICS, Answer, Metric, find_metric
from metro_fast.scoring.outcome import Outcome
from metro_fast.scoring.protocol import (
    PRESETS,
    PROTOCOLS,
    Protocol,
    find_protocol,
)
from metro_fast.scoring.question import Question
from metro_fast.scoring.relation_extraction import (
    MicroF1,
    SemEvalScores,
    semeval_macro_f1,
    semeval_scores,
    tacred_micro_f1,
)
from metro_fast.scoring.store import AnswerStore
from metro_fast.scoring.wrappers import WRAPPERS, Wrapper, chat_wrapper

if TYPE_CHECKING:
    from metro_fast.scoring.choices import score_choices
    from metro_fast.scoring.engine import Engine
    from metro_fast.scoring.fingerprint import model_fingerprint, tokenizer_fingerprint
    from metro_fast.scoring.likelihood import target_log_probs
else:  # what reads saved answers needs no torch
    __getattr__ = on_first_use(
        __name__,
        {
            "Engine": f"{__name__}.engine",
            "model_fingerprint": f"{__name__}.fingerprint",
            "score_choices": f"{__name__}.choices",
            "target_log_probs": f"{__name__}.likelihood",
            "tokenizer_fingerprint": f"{__name__}.fingerprint",
        },
        ("torch", "transformers"),
    )

    def __dir__():
        return sorted({*globals(), *__all__})


__all__ = [
    "METRICS",
    "PRESETS",
    "PROTOCOLS",
    "WRAPPERS",
    "Answer",
    "AnswerStore",
    "Engine",
    "Metric",
    "MicroF1",
    "Outcome",
    "Protocol",
    "Question",
    "SemEvalScores",
    "Wrapper",
    "accuracy",
    "chat_wrapper",
    "find_metric",
    "find_protocol",
    "margins",
    "match_label",
    "model_fingerprint",
    "normalized_text",
    "predictions",
    "score_choices",
    "semeval_macro_f1",
    "semeval_scores",
    "tacred_micro_f1",
    "target_log_probs",
    "tie_count",
    "tokenizer_fingerprint",
]
