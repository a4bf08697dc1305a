"""METRO's figures from summed counters: those of the paper's trainer, and detection's AUC."""

from collections.abc import Mapping

import torch
from torch import Tensor

from metro_fast.metro.modeling_outputs import MetroOutput

BINS = 1024
LIMIT = 16.0
"""Logits are binned over [-LIMIT, LIMIT] in BINS steps of 1/32 for the AUC."""

SCALARS = (
    "num_masked",
    "num_scored",
    "num_encoder_tokens",
    "num_replaced",
    "mlm_correct",
    "lm_correct_masked",
    "lm_correct_replaced",
    "lm_scored_replaced",
    "lm_correct_unreplaced",
    "rtd_true_positive",
    "rtd_false_positive",
)
COUNTERS: Mapping[str, int] = {**dict.fromkeys(SCALARS, 1), "rtd_histogram": 2 * BINS}


def counters(output: MetroOutput, tokens: Tensor) -> dict[str, Tensor]:
    """Collect the counters of one batch.

    Args:
        output: The result of the model.
        tokens: bool [B, L], False at padding.

    Returns:
        Scalars, and `rtd_histogram` [2 * BINS]: the logits of original tokens, then those of
        replaced ones.
    """
    found: dict[str, Tensor] = {name: getattr(output, name) for name in SCALARS}
    if output.rtd_logits is None or output.replaced is None:
        found["rtd_histogram"] = tokens.new_zeros(2 * BINS, dtype=torch.int64)
        return found
    scaled = (output.rtd_logits + LIMIT) * (BINS / (2 * LIMIT))
    # A NaN has no bin; it also makes the loss NaN, and that stops the run.
    scaled = scaled.nan_to_num(nan=0.0).clamp(0, BINS - 1)
    bins = scaled.long() + BINS * output.replaced.long()
    weights = tokens.flatten().long()
    empty = torch.zeros(2 * BINS, dtype=torch.int64, device=bins.device)
    found["rtd_histogram"] = empty.index_add(0, bins.flatten(), weights)
    return found


def figures(sums: Mapping[str, Tensor]) -> dict[str, float]:
    """Compute shares from summed counters; a share whose denominator is 0 is left out.

    Args:
        sums: The counters, summed over batches and ranks.

    Returns:
        aux_accuracy, lm_accuracy (masked positions), lm_replaced_accuracy and
        lm_unreplaced_accuracy (scored positions), rtd_accuracy, rtd_recall, rtd_specificity,
        rtd_auc, and replace_ratio = replaced / encoder tokens.
    """
    n = {name: float(sums[name]) for name in SCALARS}
    original = n["num_encoder_tokens"] - n["num_replaced"]
    kept = original - n["rtd_false_positive"]  # true negatives
    shares = {
        "aux_accuracy": (n["mlm_correct"], n["num_masked"]),
        "lm_accuracy": (n["lm_correct_masked"], n["num_masked"]),
        "lm_replaced_accuracy": (n["lm_correct_replaced"], n["lm_scored_replaced"]),
        "lm_unreplaced_accuracy": (
            n["lm_correct_unreplaced"],
            n["num_scored"] - n["lm_scored_replaced"],
        ),
        "replace_ratio": (n["num_replaced"], n["num_encoder_tokens"]),
    }
    negative, positive = sums["rtd_histogram"].view(2, BINS)
    if negative.sum() + positive.sum() > 0:
        shares |= {
            "rtd_accuracy": (n["rtd_true_positive"] + kept, n["num_encoder_tokens"]),
            "rtd_recall": (n["rtd_true_positive"], n["num_replaced"]),
            "rtd_specificity": (kept, original),
        }
    found = {name: part / whole for name, (part, whole) in shares.items() if whole}
    if negative.sum() > 0 and positive.sum() > 0:
        found["rtd_auc"] = histogram_auc(negative, positive)
    return found


def histogram_auc(negative: Tensor, positive: Tensor) -> float:
    """Compute the area under the ROC curve from histograms over rising scores.

    A pair in one bin is a tie and counts as one half, so the error against the exact area is at
    most half the share of such pairs.

    Args:
        negative: [bins], counts of negatives.
        positive: [bins], counts of positives.

    Example:
        >>> histogram_auc(torch.tensor([2, 1, 0]), torch.tensor([0, 1, 1]))
        0.9166666666666666
    """
    negative, positive = negative.double(), positive.double()
    below = negative.cumsum(0) - negative
    wins = (positive * (below + negative / 2)).sum()
    return float(wins / (negative.sum() * positive.sum()))
