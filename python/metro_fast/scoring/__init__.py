"""Answers of any model: choices by likelihood or by generation, accuracy, relation extraction."""

from metro_fast._extras import require

require("torch", "eval")
require("transformers", "eval")

from metro_fast.scoring.accuracy import accuracy, margins, predictions, tie_count  # noqa: E402
from metro_fast.scoring.choices import score_choices  # noqa: E402
from metro_fast.scoring.engine import Engine  # noqa: E402
from metro_fast.scoring.fingerprint import (  # noqa: E402
    model_fingerprint,
    tokenizer_fingerprint,
)
from metro_fast.scoring.label_matching import match_label, normalized_text  # noqa: E402
from metro_fast.scoring.likelihood import target_log_probs  # noqa: E402
from metro_fast.scoring.metrics import METRICS, Answer, Metric, find_metric  # noqa: E402
from metro_fast.scoring.outcome import Outcome  # noqa: E402
from metro_fast.scoring.protocol import (  # noqa: E402
    PRESETS,
    PROTOCOLS,
    Protocol,
    find_protocol,
)
from metro_fast.scoring.question import Question  # noqa: E402
from metro_fast.scoring.relation_extraction import (  # noqa: E402
    MicroF1,
    SemEvalScores,
    semeval_macro_f1,
    semeval_scores,
    tacred_micro_f1,
)
from metro_fast.scoring.store import AnswerStore  # noqa: E402
from metro_fast.scoring.wrappers import WRAPPERS, Wrapper, chat_wrapper  # noqa: E402

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
