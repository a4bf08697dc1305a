"""Restores the rows of whole batches of `corrupt_spans`: `restore_row` without a loop."""

from typing import Any

import numpy as np
import numpy.typing as npt

Flat = npt.NDArray[np.int64]


def restore_batch(
    input_ids: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    input_lengths: Flat,
    label_lengths: Flat,
    *,
    sentinel_first: int = 32099,
    sentinel_step: int = -1,
    num_sentinels: int = 100,
    eos_token_id: int = 1,
) -> tuple[Flat, Flat]:
    """The rows from which a batch was made, as flat ids and offsets.

    Args:
        input_ids: int [B, Li], with a separate sentinel for every span.
        labels: int [B, Ll], with every span after its sentinel.
        input_lengths: Number of ids in each row of the inputs.
        label_lengths: Number of ids in each row of the labels.
        sentinel_first: Id of the first sentinel.
        sentinel_step: Difference between a sentinel and the next.
        num_sentinels: Number of sentinels.
        eos_token_id: Id that ends both sides.

    Raises:
        AssertionError: If the sentinels of a row are not in order or differ between the sides, a
            span has no sentinel, or a row does not end with EOS.

    Example:
        >>> inputs, labels = np.array([[5, 99, 8, 98, 1]]), np.array([[99, 6, 7, 98, 9, 1]])
        >>> lengths = np.array([5]), np.array([6])
        >>> restore_batch(inputs, labels, *lengths, sentinel_first=99, num_sentinels=2)[0].tolist()
        [5, 6, 7, 8, 9]
    """
    rows = len(input_ids)
    sides = []
    for ids, lengths in ((input_ids, input_lengths), (labels, label_lengths)):
        assert (ids[np.arange(rows), lengths - 1] == eos_token_id).all(), "a row has no EOS"
        flat = ids[np.arange(ids.shape[1]) < lengths[:, None] - 1]
        ends = np.cumsum(lengths - 1)
        number = (flat - sentinel_first) * sentinel_step
        marks = np.flatnonzero((number >= 0) & (number < num_sentinels))
        # The sentinels of row r are those from first[r] up to, but not including, first[r + 1].
        first = np.searchsorted(marks, np.concatenate([[0], ends]))
        expected = np.arange(len(marks)) - np.repeat(first[:-1], np.diff(first))
        assert np.array_equal(number[marks], expected), "sentinels are not in order"
        sides.append((flat, ends, marks, np.diff(first)))
    (kept, kept_ends, marks, spans), (hidden, hidden_ends, starts, named) = sides

    # A span extends to the next sentinel. The first id of the next row is one.
    lengths = np.diff(np.concatenate([starts, [len(hidden)]])) - 1
    begins = np.concatenate([[0], hidden_ends[:-1]])
    first_ids = begins[begins < hidden_ends]
    assert np.isin(first_ids, starts).all(), "a target starts without a sentinel"
    # A row without noise has the first sentinel as its target, and no sentinel in its inputs.
    bare = (spans == 0) & (named == 1)
    assert np.array_equal(spans[~bare], named[~bare]), "the sides have different sentinels"
    of_row = np.repeat(np.arange(rows), named)
    assert (lengths[bare[of_row]] == 0).all(), "a span of the target is not in the inputs"
    starts, lengths = starts[~bare[of_row]], lengths[~bare[of_row]]

    sizes, source = np.ones(len(kept), np.int64), np.arange(len(kept))
    sizes[marks], source[marks] = lengths, len(kept) + starts + 1
    ends = np.concatenate([[0], np.cumsum(sizes)])
    taken = np.repeat(source - ends[:-1], sizes) + np.arange(ends[-1])
    return np.concatenate([kept, hidden])[taken], np.concatenate([[0], ends[kept_ends]])
