"""METRO's masks for the auxiliary model."""

from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, Unpack

import numpy as np
import numpy.typing as npt

from metro_fast import _core
from metro_fast.ops.arrays import Array, ArrayT, is_tensor
from metro_fast.ops.draws import Draw
from metro_fast.ops.masking import Masking, MaskKeywords, mask_settings
from metro_fast.ops.outputs import Outputs, finish
from metro_fast.ops.token_rows import TextRanges, TokenRows
from metro_fast.ops.vocabulary import Vocabulary

GRAIN = 1 << 17
"""Tokens for which another thread is worth starting: with 512 rows of 512, two threads take 0.22 ms
and one takes 0.32."""


class MaskBatch(NamedTuple, Generic[ArrayT]):
    """Input of the auxiliary model, and the ids that it has to restore.

    Attributes:
        input_ids: int64 or int32 [B, L]: the rows with their masks; then the pad id.
        labels: int64 or int32 [B, L]: the original ids, masked or not; then -100.
        masked_positions: int64 [M]: flat indices into [B, L], row-major, ascending.
        lengths: int64 [B], the number of tokens in each row.
        attention_mask: Like `input_ids`: 1 for tokens, 0 for padding. None unless asked for.
    """

    input_ids: ArrayT
    labels: ArrayT
    masked_positions: ArrayT
    lengths: ArrayT
    attention_mask: ArrayT | None = None


def mask_tokens(
    ids: ArrayT,
    *,
    offsets: Array | Sequence[int] | None = None,
    sample_ids: Array | Sequence[int] | None = None,
    masking: Masking | None = None,
    vocabulary: Vocabulary | None = None,
    attention_mask: bool = False,
    seed: int = 0,
    epoch: int = 0,
    num_threads: int | None = None,
    dtype: npt.DTypeLike = np.int64,
    out: Sequence[Array | None] | None = None,
    **keywords: Unpack[MaskKeywords],
) -> MaskBatch[ArrayT]:
    """Mask an exact share of the tokens of every row.

    The default is the rule of gonglinyuan/metro_t0 (`fairseq/data/mask_tokens_dataset.py`;
    METRO-T0, arXiv 2305.12567): of n eligible tokens, `floor(mlm_probability * n + U)` are chosen
    without replacement, where U is uniform on [0, 1). Each becomes the mask token with probability
    `mask_replace_prob`, a random token with `random_replace_prob`, and is kept otherwise. Upstream
    also masks special tokens and draws sentinels as random tokens; ids that are named in
    `special_token_ids` are neither masked nor drawn. `Masking.electra()` and `Masking.coco_lm()`
    are the rules of METRO's ancestors. With `word_starts` in the vocabulary whole words are drawn.

    The draws are a function of (seed, epoch, sample id, position).

    Args:
        ids: uint16, uint32, int32 or int64: [B, L], or flat together with `offsets`. Must not be
            changed during the call. All of them are text: leave out padding (the collators do).
        offsets: int [B + 1]: row r is `ids[offsets[r]:offsets[r + 1]]`. No row may be empty.
        sample_ids: int [B], 0 or more, the names of the rows; by default their index in the batch.
        masking: How many tokens are masked, and what they become.
        vocabulary: The mask token, the size, and the special ids.
        attention_mask: Whether to make the attention mask.
        seed: 0 to 2^63 - 1.
        epoch: 0 to 2^63 - 1.
        num_threads: Number of threads; None for as many as are worth starting.
        dtype: int64 or int32, the type of new arrays.
        out: Arrays of one such type for `input_ids`, `labels` and, if wanted, `attention_mask`,
            [B, same width]. They are filled and returned, and `masked_positions` refers to their
            width.
        **keywords: Everyday settings: `mlm_probability` (0.15 by default), and `mask_token_id`,
            `vocab_size`, `special_token_ids` (the mask token should be one of them) and
            `pad_token_id`, which take the place of those of the vocabulary.

    Returns:
        Batch of the kind of `ids`: numpy arrays or torch tensors.

    Raises:
        MetroFastError: If a value is outside its domain, or an id outside the vocabulary (the
            message names row and column).
        TypeError: If an array has the wrong dtype or number of dimensions, a keyword is unknown, or
            the mask token or the size of the vocabulary is missing.

    Example:
        >>> import numpy as np
        >>> ids = np.arange(10, 30)[None]
        >>> batch = mask_tokens(ids, mask_token_id=3, vocab_size=40, special_token_ids=[0, 1, 2, 3])
        >>> (batch.labels == ids).all(), len(batch.masked_positions)
        (np.True_, 3)
    """
    masking, vocabulary = mask_settings(masking, vocabulary, keywords)
    options = _core.MaskOptions(masking, vocabulary)
    rows = TokenRows.read(ids, offsets, sample_ids)
    outputs = Outputs.read(out, dtype, rows._asdict(), attention_mask, most=3)
    draw = Draw.read(seed, epoch, num_threads, rows.ids.size, GRAIN)
    return finish(MaskBatch, mask_rows(options, rows, outputs, draw), is_tensor(ids), out)


def mask_rows(
    options: _core.MaskOptions, rows: TokenRows, outputs: Outputs, draw: Draw
) -> tuple[Any, ...]:
    """The arrays of a `MaskBatch`, from settings, rows and outputs that were checked before."""
    if isinstance(rows.ids, TextRanges):
        assert rows.sample_ids is not None
        return rows.ids.files.mask_tokens(rows.ids, rows.sample_ids, options, outputs, draw)
    return _core.mask_tokens(rows, options, outputs, draw)
