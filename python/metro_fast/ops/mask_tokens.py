"""METRO's masks for the auxiliary model."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from metro_fast import _core
from metro_fast.errors import MetroFastError
from metro_fast.ops.arrays import Array, contiguous, give, integers, is_tensor, view
from metro_fast.ops.draws import check_counter, resolve_threads
from metro_fast.ops.outputs import Outputs
from metro_fast.ops.span_options import as_table
from metro_fast.ops.text_ranges import TextRanges

GRAIN = 1 << 17
"""Tokens of a thread's share that pay for its start: at 512 rows of 512 two threads take 0.22 ms,
one takes 0.32."""


class MaskBatch(NamedTuple):
    """Input of the auxiliary model, and what it is to restore.

    Attributes:
        input_ids: int64 or int32 [B, L]: the rows with their masks; then the pad id.
        labels: int64 or int32 [B, L]: the original ids, masked or not; then -100.
        masked_positions: int64 [M]: flat indices into [B, L], row-major, ascending.
        lengths: int64 [B]: tokens of each row.
        attention_mask: Like `input_ids`: 1 for tokens, 0 for padding; None where not asked for.
    """

    input_ids: Any
    labels: Any
    masked_positions: Any
    lengths: Any
    attention_mask: Any = None


def mask_tokens(
    ids: Array,
    *,
    mask_token_id: int,
    vocab_size: int,
    offsets: Array | None = None,
    sample_ids: Array | None = None,
    count: Literal["metro", "electra"] = "metro",
    mlm_probability: float = 0.15,
    max_masked: int | None = None,
    mask_span_length: int = 1,
    mask_span_stdev: float = 0.0,
    word_starts: Array | None = None,
    mask_replace_prob: float = 0.8,
    random_replace_prob: float = 0.1,
    special_token_ids: Iterable[int] = (),
    random_token_range: tuple[int, int] | None = None,
    pad_token_id: int = 0,
    attention_mask: bool = False,
    seed: int = 0,
    epoch: int = 0,
    num_threads: int | None = None,
    dtype: npt.DTypeLike = np.int64,
    out: Sequence[Array | None] | None = None,
) -> MaskBatch:
    """Mask an exact share of the tokens of every row.

    The law is that of gonglinyuan/metro_t0 (`fairseq/data/mask_tokens_dataset.py`; METRO-T0,
    arXiv 2305.12567): of n eligible tokens `floor(mlm_probability * n + U)` are chosen without
    replacement, U uniform on [0, 1). Each becomes the mask token with probability
    `mask_replace_prob`, a random token with `random_replace_prob`, and is kept otherwise. Upstream
    also masks special tokens and draws sentinels as random tokens; name them in
    `special_token_ids` and neither happens. ELECTRA's law (google-research/electra,
    `pretrain_helpers.py`) is `count="electra"` with 0.85 and 0.

    Draws are a function of (seed, epoch, sample id, position).

    Args:
        ids: uint16, uint32, int32 or int64: [B, L], or flat together with `offsets`. Must not be
            changed during the call.
        mask_token_id: Id of the mask token.
        vocab_size: Ids run from 0 to `vocab_size - 1`.
        offsets: int [B + 1]: row r is `ids[offsets[r]:offsets[r + 1]]`; no row may be empty.
        sample_ids: int [B], 0 or more: what names the rows; their index in the batch otherwise.
        count: `"metro"`, or `"electra"`: `max(1, round(mlm_probability * n))` draws with
            replacement, n counting special tokens too.
        mlm_probability: Share of the eligible tokens that is masked, in [0, 1].
        max_masked: Most draws of a row, or None.
        mask_span_length: Mean tokens of a masked span: `floor(mlm_probability * n / this + U)`
            spans start at random tokens, may overlap, and end with the row.
        mask_span_stdev: Lengths are `max(0, round(N(mask_span_length, this)))`.
        word_starts: bool [V]: whether an id starts a word. Where given, whole words are masked, and
            counted; a word with a special token is special.
        mask_replace_prob: Share of the masked tokens that becomes the mask token.
        random_replace_prob: Share of the masked tokens that becomes a random token.
        special_token_ids: Ids that are never masked and never drawn; `mask_token_id` belongs here.
        random_token_range: Random ids are uniform on (start, end) without the special ids; the
            vocabulary by default.
        pad_token_id: Id that fills short rows of the input.
        attention_mask: Make the mask.
        seed: 0 to 2^63 - 1.
        epoch: 0 to 2^63 - 1.
        num_threads: Threads of the call; None for as many as pay.
        dtype: int64 or int32, of what is made.
        out: Arrays of one such type for `input_ids`, `labels` and, if wanted, `attention_mask`,
            [B, same width]; they are returned, and `masked_positions` counts in their width.

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
    options = mask_options(
        mask_token_id=mask_token_id,
        vocab_size=vocab_size,
        count=count,
        mlm_probability=mlm_probability,
        max_masked=max_masked,
        mask_span_length=mask_span_length,
        mask_span_stdev=mask_span_stdev,
        word_starts=word_starts,
        mask_replace_prob=mask_replace_prob,
        random_replace_prob=random_replace_prob,
        special_token_ids=special_token_ids,
        random_token_range=random_token_range,
        pad_token_id=pad_token_id,
    )
    return mask_with(
        options,
        ids,
        offsets=offsets,
        sample_ids=sample_ids,
        attention_mask=attention_mask,
        seed=seed,
        epoch=epoch,
        num_threads=num_threads,
        dtype=dtype,
        out=out,
    )


def mask_with(
    options: _core.MaskOptions,
    ids: Array | TextRanges,
    *,
    offsets: Array | None = None,
    sample_ids: Array | None = None,
    attention_mask: bool = False,
    seed: int = 0,
    epoch: int = 0,
    num_threads: int | None = None,
    dtype: npt.DTypeLike = np.int64,
    out: Sequence[Array | None] | None = None,
    width: int | None = None,
    multiple: int = 1,
) -> MaskBatch:
    """`mask_tokens` with options that were checked before.

    Args:
        options: From `mask_options`.
        ids: As there, or ranges of a text, which need sample ids.
        offsets: As there.
        sample_ids: As there.
        attention_mask: As there.
        seed: As there.
        epoch: As there.
        num_threads: As there.
        dtype: As there.
        out: As there.
        width: Of new arrays; None for the longest row's.
        multiple: What the width of new arrays is rounded up to.
    """
    beside: Any = {"attention_mask": attention_mask, "widths": (width, width), "multiple": multiple}
    if isinstance(ids, TextRanges):
        assert sample_ids is not None
        result = ids.files.mask_tokens(
            ids.starts,
            ids.ends,
            integers("sample_ids", sample_ids),
            options,
            Outputs.read(out, dtype, {}, most=3, **beside),
            vocab_size=ids.vocab_size,
            seed=seed,
            epoch=epoch,
            num_threads=resolve_threads(num_threads, ids.size, GRAIN),
        )
        return as_batch(result, tensor=False, out=out)
    tensor = is_tensor(ids)
    array = contiguous(view("ids", ids))
    read = {"ids": array, "offsets": offsets, "sample_ids": sample_ids}
    result = _core.mask_tokens(
        array,
        None if offsets is None else integers("offsets", offsets),
        None if sample_ids is None else integers("sample_ids", sample_ids),
        options,
        Outputs.read(out, dtype, read, most=3, **beside),
        seed=check_counter("seed", seed),
        epoch=check_counter("epoch", epoch),
        num_threads=resolve_threads(num_threads, array.size, GRAIN),
    )
    return as_batch(result, tensor=tensor, out=out)


def as_batch(
    result: tuple[Any, ...], *, tensor: bool, out: Sequence[Array | None] | None
) -> MaskBatch:
    """What the native module returned, as the caller's kind, and the caller's own arrays."""
    batch = MaskBatch(*(None if a is None else give(a, tensor=tensor) for a in result))
    if out is None:
        return batch
    names = ("input_ids", "labels", "attention_mask")
    given = {name: array for name, array in zip(names, out, strict=False) if array is not None}
    return batch._replace(**given)


def mask_options(
    *,
    mask_token_id: int,
    vocab_size: int,
    count: Literal["metro", "electra"] = "metro",
    mlm_probability: float = 0.15,
    max_masked: int | None = None,
    mask_span_length: int = 1,
    mask_span_stdev: float = 0.0,
    word_starts: Array | None = None,
    mask_replace_prob: float = 0.8,
    random_replace_prob: float = 0.1,
    special_token_ids: Iterable[int] = (),
    random_token_range: tuple[int, int] | None = None,
    pad_token_id: int = 0,
) -> _core.MaskOptions:
    """Check the options; see `mask_tokens` for them."""
    return _core.MaskOptions(
        count=count,
        mlm_probability=mlm_probability,
        max_masked=None if max_masked is None else check_counter("max_masked", max_masked),
        span_lengths=_span_table(mask_span_length, mask_span_stdev),
        mean_span_length=float(mask_span_length),
        word_starts=as_table(word_starts),
        mask_replace_prob=mask_replace_prob,
        random_replace_prob=random_replace_prob,
        mask_token_id=check_counter("mask_token_id", mask_token_id),
        vocab_size=check_counter("vocab_size", vocab_size),
        special_token_ids=integers("special_token_ids", list(special_token_ids)).tolist(),
        random_token_range=_range(random_token_range, vocab_size),
        pad_token_id=check_counter("pad_token_id", pad_token_id),
    )


def _span_table(length: int, stdev: float) -> list[float] | None:
    """Probabilities of spans of 0, 1, 2, ... tokens: max(0, round(N(length, stdev)))."""
    if not 1 <= length <= 1 << 16 or not 0 <= stdev <= 1 << 16:
        raise MetroFastError(
            f"mask_span_length is {length} and mask_span_stdev {stdev}, expected 1 to 2**16 tokens "
            "and 0 to 2**16"
        )
    if stdev == 0:
        return None if length == 1 else [0.0] * length + [1.0]
    # Beyond 8 standard deviations less than 2^-32 is left.
    steps = range(math.ceil(length + 8 * stdev) + 1)
    below = [0.5 * math.erfc((length - step - 0.5) / (stdev * math.sqrt(2))) for step in steps]
    return [below[0], *(after - before for before, after in pairwise(below))]


def _range(given: tuple[int, int] | None, vocab_size: int) -> tuple[int, int]:
    if given is None:
        return 0, vocab_size
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise TypeError(f"random_token_range is {given!r}, expected (start, end)")
    start, end = (check_counter("random_token_range", value) for value in given)
    return start, end
