"""Span corruption of a batch: T5's, and its relatives."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, Generic, Literal, NamedTuple, Unpack

import numpy as np
import numpy.typing as npt

from metro_fast import _core
from metro_fast.errors import MetroFastError
from metro_fast.ops.arrays import Array, ArrayT, is_tensor
from metro_fast.ops.draws import Draw, check_counter
from metro_fast.ops.outputs import Outputs, finish
from metro_fast.ops.span_corruption import SpanCorruption, SpanKeywords, span_settings
from metro_fast.ops.token_rows import TextRanges, TokenRows
from metro_fast.ops.vocabulary import Vocabulary

GRAIN = 1 << 19
"""Tokens for which another thread is worth starting: with 512 rows of 568, two threads take as long
as one (0.21 ms); with 2,048 rows they take two thirds of the time."""


class SpanBatch(NamedTuple, Generic[ArrayT]):
    """Inputs and targets of a denoising step, padded to the longest of each.

    Attributes:
        input_ids: int64 or int32 [B, Li]: kept tokens, one sentinel for each span, EOS; then the
            pad id.
        labels: int64 or int32 [B, Ll]: each sentinel followed by its span, EOS; then -100.
        input_lengths: int64 [B], the number of ids in each row of `input_ids` before its padding.
        label_lengths: int64 [B], the number of ids in each row of `labels` before its padding. A
            mean loss divides by their sum.
        denoisers: int64 [B], the index of each row's denoiser.
        attention_mask: Like `input_ids`: 1 for ids, 0 for padding. None unless asked for.
        decoder_input_ids: Like `labels`, shifted right by one after the start id, and padded with
            the pad id. None unless asked for.
    """

    input_ids: ArrayT
    labels: ArrayT
    input_lengths: ArrayT
    label_lengths: ArrayT
    denoisers: ArrayT
    attention_mask: ArrayT | None = None
    decoder_input_ids: ArrayT | None = None


def corrupt_spans(
    ids: ArrayT,
    *,
    offsets: Array | Sequence[int] | None = None,
    sample_ids: Array | Sequence[int] | None = None,
    noise_mask: Array | None = None,
    corruption: SpanCorruption | None = None,
    vocabulary: Vocabulary | None = None,
    attention_mask: bool = False,
    seed: int = 0,
    epoch: int = 0,
    num_threads: int | None = None,
    dtype: npt.DTypeLike = np.int64,
    out: Sequence[Array | None] | None = None,
    **keywords: Unpack[SpanKeywords],
) -> SpanBatch[ArrayT]:
    """Replace random spans by sentinels, and make the spans the target.

    The default noise is `random_spans_noise_mask` of google-research/text-to-text-transfer-
    transformer (`t5/data/preprocessors.py`). In a row of n tokens, `round(n * noise_density)` are
    noise, in `round(noise / mean_noise_span_length)` spans. Both round half to even; there is at
    least 1 span, and there are at most as many as noise tokens and as kept tokens. The lengths of
    the spans and of the runs between them are two independent uniform compositions. A row starts
    with kept tokens and ends in noise. A single token, and any row at density 0, is kept whole and
    has the first sentinel as its target. `denoisers` describe other kinds of noise, and mixtures.

    The draw of a row is a function of (seed, epoch, sample id) alone.

    Args:
        ids: uint16, uint32, int32 or int64: [B, L], or flat together with `offsets`. Must not be
            changed during the call, and must not contain sentinels. All of them are text: leave out
            padding, and the EOS that a tokenizer puts at the end, or the labels end with two (the
            collators leave out both).
        offsets: int [B + 1]: row r is `ids[offsets[r]:offsets[r + 1]]`. No row may be empty.
        sample_ids: int [B], 0 or more, the names of the rows; by default their index in the batch.
        noise_mask: bool, of the shape of `ids`: the noise, in place of a random draw.
        corruption: Denoisers and limits of lengths.
        vocabulary: Sentinels and the other special ids; T5's by default.
        attention_mask: Whether to make the attention mask.
        seed: 0 to 2^63 - 1.
        epoch: 0 to 2^63 - 1.
        num_threads: Number of threads; None for as many as are worth starting.
        dtype: int64 or int32, the type of new arrays. Cross-entropy in torch needs int64 labels.
        out: Arrays of one such type for `input_ids`, `labels` and, if wanted, `attention_mask` and
            `decoder_input_ids`, each [B, wide enough] (pinned tensors, for instance). They are
            filled and returned.
        **keywords: Everyday settings. `noise_density` (0 or more and less than 1, 0.15 by default)
            and `mean_noise_span_length` (1 or more, 3 by default) belong to the default denoiser;
            `denoisers` replaces it. `sentinel_first`, `eos_token_id` and `pad_token_id` take the
            place of those of the vocabulary.

    Returns:
        Batch of the kind of `ids`: numpy arrays or torch tensors.

    Raises:
        MetroFastError: If a value is outside its domain, a row needs more sentinels than there
            are, or an id is negative or a sentinel (the message names row and column).
        TypeError: If an array has the wrong dtype or number of dimensions, or a keyword is unknown.

    Example:
        >>> import numpy as np
        >>> batch = corrupt_spans(np.arange(10, 22)[None], noise_density=0.25, seed=1)
        >>> batch.input_ids[0, :9].tolist(), batch.input_lengths.tolist()
        ([10, 11, 12, 13, 14, 15, 16, 17, 18], [11])
        >>> batch.labels.tolist()
        [[32099, 19, 20, 21, 1]]
    """
    corruption, vocabulary = span_settings(corruption, vocabulary, keywords)
    options = _core.SpanOptions(corruption, vocabulary)
    rows = TokenRows.read(ids, offsets, sample_ids, noise_mask)
    decoder = vocabulary.decoder_start_token_id is not None
    outputs = Outputs.read(out, dtype, rows._asdict(), attention_mask, decoder)
    draw = Draw.read(seed, epoch, num_threads, rows.ids.size, GRAIN)
    return finish(SpanBatch, corrupt_rows(options, rows, outputs, draw), is_tensor(ids), out)


def corrupt_rows(
    options: _core.SpanOptions, rows: TokenRows, outputs: Outputs, draw: Draw
) -> tuple[Any, ...]:
    """The arrays of a `SpanBatch`, from settings, rows and outputs that were checked before."""
    if isinstance(rows.ids, TextRanges):
        assert rows.sample_ids is not None
        files = rows.ids.files
        return files.corrupt_spans(rows.ids, rows.sample_ids, rows.phases, options, outputs, draw)
    return _core.corrupt_spans(rows, options, outputs, draw)


def compute_input_and_target_lengths(
    inputs_length: int,
    noise_density: float = 0.15,
    mean_noise_span_length: float = 3.0,
    *,
    compat: Literal["t5", "hf"] = "t5",
) -> tuple[int, int]:
    """Number of raw tokens that corrupt to at most `inputs_length` ids, and ids of their target.

    The rule is that of T5's `random_spans_helper` (`t5/data/preprocessors.py`), but it uses the
    counts of `corrupt_spans`, so that the limit is also kept where upstream's rounding in f64 and
    in f32 disagree.

    Args:
        inputs_length: Number of ids in the corrupted row, including sentinels and EOS; at least 3.
        noise_density: As in `corrupt_spans`.
        mean_noise_span_length: As in `corrupt_spans`.
        compat: `"t5"`, or `"hf"` for the answer of transformers' `run_t5_mlm_flax.py` and of
            nanoT5: their number of spans, and never fewer than `inputs_length` tokens, which
            exceeds the limit if every span is one token.

    Returns:
        (tokens, targets_length).

    Raises:
        MetroFastError: If no row of 2 tokens or more fits, or an option is outside its domain.

    Example:
        >>> compute_input_and_target_lengths(512)
        (568, 114)
    """
    limit = check_counter("inputs_length", inputs_length)
    if limit >= 1 << 31:
        raise MetroFastError(f"inputs_length is {limit}, expected less than 2**31")

    def lengths(tokens: int) -> tuple[int, int]:
        return _core.span_lengths(tokens, noise_density, mean_noise_span_length, compat)

    # A longer row never corrupts to fewer ids, so bisection finds the last row that fits.
    tokens = bisect_right(range(1 << 31), limit, key=lambda tokens: lengths(tokens)[0]) - 1
    if tokens < 2:
        raise MetroFastError(f"inputs_length is {limit}, expected at least 3")
    if compat == "hf":
        tokens = max(tokens, limit)
    targets = lengths(tokens)[1]
    if noise_density == 0.5 and targets > inputs_length:
        # T5 makes this exception too: it keeps both sides at or below `inputs_length`.
        return tokens - 1, targets - 1
    return tokens, targets
