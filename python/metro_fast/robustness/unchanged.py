"""Whether the scores of two models differ by noise alone."""

from collections.abc import Sequence

import numpy as np

__all__ = ["ABSOLUTE_NOISE", "RELATIVE_NOISE", "same_scores"]

ABSOLUTE_NOISE = 1e-4
"""Difference in nats that batching alone may make in fp32.

Another batch size moved T5's scores by 7e-6 and those of SmolLM2-135M by 2.7e-5, so equal bits are
too much to ask for. One step of LoRA (rank 8, learning rate 1e-3) moved the latter by 0.16.
"""

RELATIVE_NOISE = 1e-5
"""The same as a share of the score, for options of many tokens, whose sums are large."""


def same_scores(
    first: Sequence[Sequence[Sequence[float]]], second: Sequence[Sequence[Sequence[float]]]
) -> bool:
    """Whether two models' scores differ by no more than batching does, as if they were one model.

    Args:
        first: Scores by cell, item and choice.
        second: Those of the other model, in the same order.

    Returns:
        False if any two scores differ by more than `ABSOLUTE_NOISE` and `RELATIVE_NOISE` together,
        or the numbers of choices differ.

    Example:
        >>> same_scores([[[-1.0, -2.0]]], [[[-1.00001, -2.0]]])
        True
        >>> same_scores([[[-1.0, -2.0]]], [[[-1.001, -2.0]]])
        False
    """
    rows, others = ([row for cell in cells for row in cell] for cells in (first, second))
    if [len(row) for row in rows] != [len(row) for row in others]:
        return False
    ours, theirs = (np.array([s for row in part for s in row]) for part in (rows, others))
    return bool(np.allclose(ours, theirs, rtol=RELATIVE_NOISE, atol=ABSOLUTE_NOISE))
