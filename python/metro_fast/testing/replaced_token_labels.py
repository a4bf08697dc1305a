"""Reference of `ops.replaced_token_labels`."""

import numpy as np
from numpy.typing import NDArray


def replaced_token_labels(
    original: NDArray[np.int64],
    sampled: NDArray[np.int64],
    masked_positions: NDArray[np.int64],
    *,
    pad_token_id: int = 0,
) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """Input ids with the samples in their places, and labels of the tokens that this changes.

    Example:
        >>> ids, labels = replaced_token_labels(
        ...     np.array([[7, 8, 9, -100]]), np.array([7, 5]), np.array([0, 2])
        ... )
        >>> ids.tolist(), labels.tolist()
        ([[7, 8, 5, 0]], [[0, 0, 1, -100]])
    """
    padding = original < 0
    ids = np.where(padding, pad_token_id, original)
    ids.reshape(-1)[masked_positions] = sampled
    labels = np.where(padding, -100, ids != original).astype(np.int8)
    return ids, labels
