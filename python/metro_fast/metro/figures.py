"""METRO's figures from summed counters: those of the paper's trainer, and detection's AUC."""

from collections.abc import Mapping

import torch
from torch import Tensor

from metro_fast.metro.modeling_outputs import MetroOutput
from metro_fast.metro.targets import flags_at

BINS = 1024
LIMIT = 16.0
"""Logits are binned over [-LIMIT, LIMIT] in BINS steps of 1/32 for the AUC."""

_HEADS = ("rtd", "rtd_decoder")
_TOKENS = (
    "num_masked",
    "num_scored",
    "num_encoder_tokens",
    "num_replaced",
    "mlm_correct",
    "mlm_counted",
    "lm_correct_masked",
    "lm_correct_replaced",
    "lm_scored_replaced",
    "lm_correct_unreplaced",
)
COUNTERS: Mapping[str, int] = {
    **dict.fromkeys(_TOKENS, 1),
    **{f"{head}_histogram": 2 * BINS for head in _HEADS},
}
"""Length of each counter. Detection's true and false positives are parts of its histogram, since
0 is the edge of a bin."""


def counters(output: MetroOutput, tokens: Tensor) -> dict[str, Tensor]:
    """Collect the counters of one batch.

    Args:
        output: The result of the model.
        tokens: bool [B, L], False at padding.

    Returns:
        Scalars, and for each detection head its histogram [2 * BINS]: the logits of original
        tokens, then those of replaced ones.
    """
    found = _token_counters(output, tokens)
    for head in _HEADS:
        found[f"{head}_histogram"] = _histogram(getattr(output, f"{head}_logits"), output, tokens)
    return found


def _token_counters(output: MetroOutput, tokens: Tensor) -> dict[str, Tensor]:
    assert output.mlm is not None
    assert output.lm is not None
    assert output.lm_correct is not None
    assert output.masked_positions is not None
    assert output.replaced is not None
    scored, correct = output.scored_positions, output.lm_correct
    masked = flags_at(output.masked_positions, tokens).flatten()
    changed = output.replaced.flatten()[scored]
    return {
        "num_masked": masked.sum(),
        "num_scored": output.lm.count,
        "num_encoder_tokens": tokens.sum(),
        "num_replaced": output.replaced.sum(),
        "mlm_correct": output.mlm.correct,
        "mlm_counted": output.mlm.count,
        "lm_correct_masked": (correct & masked[scored]).sum(),
        "lm_correct_replaced": (correct & changed).sum(),
        "lm_scored_replaced": changed.sum(),
        "lm_correct_unreplaced": (correct & ~changed).sum(),
    }


def _histogram(logits: Tensor | None, output: MetroOutput, tokens: Tensor) -> Tensor:
    empty = torch.zeros(2 * BINS, dtype=torch.int64, device=tokens.device)
    if logits is None or output.replaced is None:
        return empty
    scaled = (logits + LIMIT) * (BINS / (2 * LIMIT))
    # A NaN has no bin: the decoder did not read the token, or the loss is NaN and stops the run.
    known = ~scaled.isnan()
    scaled = scaled.nan_to_num(nan=0.0).clamp(0, BINS - 1)
    bins = scaled.long()
    # A logit just below 0 can be rounded up to the bin that begins at 0.
    bins = torch.where(logits < 0, bins.clamp(max=BINS // 2 - 1), bins)
    bins = bins + BINS * output.replaced.long()
    return empty.index_add(0, bins.flatten(), (tokens & known).flatten().long())


def figures(sums: Mapping[str, Tensor]) -> dict[str, float]:
    """Compute shares from summed counters; a share whose denominator is 0 is left out.

    Args:
        sums: The counters, summed over batches and ranks.

    Returns:
        aux_accuracy, lm_accuracy (masked positions), lm_replaced_accuracy and
        lm_unreplaced_accuracy (scored positions), replace_ratio = replaced / encoder tokens, and
        for each detection head its accuracy, recall, specificity and auc, which begin with rtd_
        for the one on the encoder and with rtd_decoder_ for the one on the decoder.
    """
    n = {name: float(sums[name]) for name in _TOKENS}
    shares = {
        "aux_accuracy": (n["mlm_correct"], n["mlm_counted"]),
        "lm_accuracy": (n["lm_correct_masked"], n["num_masked"]),
        "lm_replaced_accuracy": (n["lm_correct_replaced"], n["lm_scored_replaced"]),
        "lm_unreplaced_accuracy": (
            n["lm_correct_unreplaced"],
            n["num_scored"] - n["lm_scored_replaced"],
        ),
        "replace_ratio": (n["num_replaced"], n["num_encoder_tokens"]),
    }
    found = {name: part / whole for name, (part, whole) in shares.items() if whole}
    for head in _HEADS:
        found |= _detection_figures(head, sums[f"{head}_histogram"])
    return found


def _detection_figures(head: str, histogram: Tensor) -> dict[str, float]:
    original, replaced = histogram.view(2, BINS)
    originals, replacements = float(original.sum()), float(replaced.sum())
    kept = float(original[: BINS // 2].sum())  # true negatives
    detected = float(replaced[BINS // 2 :].sum())
    shares = {
        "accuracy": (detected + kept, originals + replacements),
        "recall": (detected, replacements),
        "specificity": (kept, originals),
    }
    found = {f"{head}_{name}": part / whole for name, (part, whole) in shares.items() if whole}
    if originals and replacements:
        found[f"{head}_auc"] = histogram_auc(original, replaced)
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
