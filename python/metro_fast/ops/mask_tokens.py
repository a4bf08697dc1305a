"""METRO's masks for the auxiliary model."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from metro_fast import _core
from metro_fast.ops.arrays import Array, contiguous, give, integers, is_tensor, view, writable_pair
from metro_fast.ops.draws import check_counter, resolve_threads

_GRAIN = 1 << 16
"""Tokens that one thread masks in about 0.2 ms."""


class MaskBatch(NamedTuple):
    """Input of the auxiliary model, and what it is to restore.

    Attributes:
        input_ids: int64 [B, L]: the rows with their masks; then the pad id.
        labels: int64 [B, L]: the original ids, masked or not; then -100.
        masked_positions: int64 [M]: flat indices into [B, L], row-major, ascending.
        lengths: int64 [B]: tokens of each row.
    """

    input_ids: Any
    labels: Any
    masked_positions: Any
    lengths: Any


def mask_tokens(
    ids: Array,
    *,
    mask_token_id: int,
    vocab_size: int,
    offsets: Array | None = None,
    sample_ids: Array | None = None,
    mlm_probability: float = 0.15,
    mask_replace_prob: float = 0.8,
    random_replace_prob: float = 0.1,
    special_token_ids: Iterable[int] = (),
    random_token_range: tuple[int, int] | None = None,
    pad_token_id: int = 0,
    seed: int = 0,
    epoch: int = 0,
    num_threads: int | None = None,
    out: tuple[Array, Array] | None = None,
) -> MaskBatch:
    """Mask an exact share of the tokens of every row.

    The law is that of gonglinyuan/metro_t0 (`fairseq/data/mask_tokens_dataset.py`; METRO-T0,
    arXiv 2305.12567): of n eligible tokens `floor(mlm_probability * n + U)` are chosen without
    replacement, U uniform on [0, 1). Each becomes the mask token with probability
    `mask_replace_prob`, a random token with `random_replace_prob`, and is kept otherwise. Upstream
    also masks special tokens and draws sentinels as random tokens; name them in
    `special_token_ids` and neither happens.

    Draws are a function of (seed, epoch, sample id, position).

    Args:
        ids: uint16, uint32, int32 or int64: [B, L], or flat together with `offsets`. Must not be
            changed during the call.
        mask_token_id: Id of the mask token.
        vocab_size: Ids run from 0 to `vocab_size - 1`.
        offsets: int [B + 1]: row r is `ids[offsets[r]:offsets[r + 1]]`; no row may be empty.
        sample_ids: int [B], 0 or more: what names the rows; their index in the batch otherwise.
        mlm_probability: Share of the eligible tokens that is masked, in [0, 1].
        mask_replace_prob: Share of the masked tokens that becomes the mask token.
        random_replace_prob: Share of the masked tokens that becomes a random token.
        special_token_ids: Ids that are never masked and never drawn; `mask_token_id` belongs here.
        random_token_range: Random ids are uniform on (start, end) without the special ids; the
            vocabulary by default.
        pad_token_id: Id that fills short rows of the input.
        seed: 0 to 2^63 - 1.
        epoch: 0 to 2^63 - 1.
        num_threads: Threads of the call; None for as many as pay.
        out: int64 arrays for `input_ids` and `labels`, [B, same width]; they are returned, and
            `masked_positions` counts in their width.

    Returns:
        Batch of the kind of `ids`: numpy arrays or torch tensors.

    Raises:
        MetroFastError: If a value is outside its domain, or an id outside the vocabulary (the
            message names row and column).
        TypeError: If an array has the wrong dtype or number of dimensions.

    Example:
        >>> import numpy as np
        >>> ids = np.arange(10, 30)[None]
        >>> batch = mask_tokens(ids, mask_token_id=3, vocab_size=40, special_token_ids=[0, 1, 2, 3])
        >>> (batch.labels == ids).all(), len(batch.masked_positions)
        (np.True_, 3)
    """
    tensor = is_tensor(ids)
    array = contiguous(view("ids", ids))
    read = {"ids": array, "offsets": offsets, "sample_ids": sample_ids}
    inputs, labels = writable_pair(out, (np.int64, np.int64), 2, read)
    result = _core.mask_tokens(
        array,
        None if offsets is None else integers("offsets", offsets),
        None if sample_ids is None else integers("sample_ids", sample_ids),
        mlm_probability=mlm_probability,
        mask_replace_prob=mask_replace_prob,
        random_replace_prob=random_replace_prob,
        mask_token_id=check_counter("mask_token_id", mask_token_id),
        vocab_size=check_counter("vocab_size", vocab_size),
        special_token_ids=integers("special_token_ids", list(special_token_ids)).tolist(),
        random_token_range=_range(random_token_range, vocab_size),
        pad_token_id=check_counter("pad_token_id", pad_token_id),
        seed=check_counter("seed", seed),
        epoch=check_counter("epoch", epoch),
        num_threads=resolve_threads(num_threads, array.size, _GRAIN),
        input_ids=inputs,
        labels=labels,
    )
    batch = MaskBatch(*(give(array, tensor=tensor) for array in result))
    return batch if out is None else batch._replace(input_ids=out[0], labels=out[1])


def _range(given: tuple[int, int] | None, vocab_size: int) -> tuple[int, int]:
    if given is None:
        return 0, vocab_size
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise TypeError(f"random_token_range is {given!r}, expected (start, end)")
    start, end = (check_counter("random_token_range", value) for value in given)
    return start, end
