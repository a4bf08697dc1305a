"""T5 span corruption of a batch."""

from bisect import bisect_right
from typing import Any, NamedTuple

import numpy as np

from metro_fast import _core
from metro_fast.errors import MetroFastError
from metro_fast.ops.arrays import Array, contiguous, give, integers, is_tensor, view, writable_pair
from metro_fast.ops.draws import check_counter, resolve_threads

_GRAIN = 1 << 17
"""Tokens that one thread corrupts in about 0.2 ms."""


class SpanBatch(NamedTuple):
    """Inputs and targets of a denoising step, padded to the longest of each.

    Attributes:
        input_ids: int64 [B, Li]: kept tokens, one sentinel a span, EOS; then the pad id.
        labels: int64 [B, Ll]: each sentinel with its span, EOS; then -100.
        input_lengths: int64 [B]: ids of each row of `input_ids` before its padding.
        label_lengths: int64 [B]: ids of each row of `labels` before its padding.
    """

    input_ids: Any
    labels: Any
    input_lengths: Any
    label_lengths: Any


def corrupt_spans(
    ids: Array,
    *,
    offsets: Array | None = None,
    sample_ids: Array | None = None,
    noise_density: float = 0.15,
    mean_noise_span_length: float = 3.0,
    sentinel_first: int = 32099,
    sentinel_step: int = -1,
    num_sentinels: int = 100,
    eos_token_id: int = 1,
    pad_token_id: int = 0,
    seed: int = 0,
    epoch: int = 0,
    num_threads: int | None = None,
    out: tuple[Array, Array] | None = None,
) -> SpanBatch:
    """Replace random spans by sentinels, and make the spans the target.

    The law is `random_spans_noise_mask` of google-research/text-to-text-transfer-transformer
    (`t5/data/preprocessors.py`): of a row of n tokens, `round(n * noise_density)` are noise, in
    `round(noise / mean_noise_span_length)` spans (f32, half to even, at least 1, at most the noise
    and the kept tokens); the lengths of the spans and of the runs between them are two independent
    uniform compositions; a row starts with kept tokens and ends in noise. A single token, and any
    row at density 0, is kept whole and has the first sentinel as target.

    The draw of a row is a function of (seed, epoch, sample id) alone.

    Args:
        ids: uint16, uint32, int32 or int64: [B, L], or flat together with `offsets`. Must not be
            changed during the call, and must not hold sentinels.
        offsets: int [B + 1]: row r is `ids[offsets[r]:offsets[r + 1]]`; no row may be empty.
        sample_ids: int [B], 0 or more: what names the rows; their index in the batch otherwise.
        noise_density: Share of noise tokens, in [0, 1).
        mean_noise_span_length: Mean tokens of a span, at least 1.
        sentinel_first: Id of the first sentinel (`<extra_id_0>`).
        sentinel_step: 1 or -1: what leads from a sentinel to the next.
        num_sentinels: Sentinels of the vocabulary.
        eos_token_id: Id that ends inputs and labels.
        pad_token_id: Id that fills short rows of the inputs.
        seed: 0 to 2^63 - 1.
        epoch: 0 to 2^63 - 1.
        num_threads: Threads of the call; None for as many as pay.
        out: int64 arrays for `input_ids` and `labels`, [B, wide enough]; they are returned.

    Returns:
        Batch of the kind of `ids`: numpy arrays or torch tensors.

    Raises:
        MetroFastError: If a value is outside its domain, a row needs more sentinels than there
            are, or an id is negative or a sentinel (the message names row and column).
        TypeError: If an array has the wrong dtype or number of dimensions.

    Example:
        >>> import numpy as np
        >>> batch = corrupt_spans(np.arange(10, 22)[None], noise_density=0.25, seed=1)
        >>> batch.input_ids[0, :9].tolist(), batch.input_lengths.tolist()
        ([10, 11, 12, 13, 14, 15, 16, 17, 18], [11])
        >>> batch.labels.tolist()
        [[32099, 19, 20, 21, 1]]
    """
    tensor = is_tensor(ids)
    array = contiguous(view("ids", ids))
    read = {"ids": array, "offsets": offsets, "sample_ids": sample_ids}
    inputs, labels = writable_pair(out, (np.int64, np.int64), 2, read)
    result = _core.corrupt_spans(
        array,
        None if offsets is None else integers("offsets", offsets),
        None if sample_ids is None else integers("sample_ids", sample_ids),
        noise_density=noise_density,
        mean_noise_span_length=mean_noise_span_length,
        sentinel_first=check_counter("sentinel_first", sentinel_first),
        sentinel_step=sentinel_step,
        num_sentinels=check_counter("num_sentinels", num_sentinels),
        eos_token_id=check_counter("eos_token_id", eos_token_id),
        pad_token_id=check_counter("pad_token_id", pad_token_id),
        seed=check_counter("seed", seed),
        epoch=check_counter("epoch", epoch),
        num_threads=resolve_threads(num_threads, array.size, _GRAIN),
        input_ids=inputs,
        labels=labels,
    )
    batch = SpanBatch(*(give(array, tensor=tensor) for array in result))
    return batch if out is None else batch._replace(input_ids=out[0], labels=out[1])


def compute_input_and_target_lengths(
    inputs_length: int, noise_density: float = 0.15, mean_noise_span_length: float = 3.0
) -> tuple[int, int]:
    """Raw tokens that corrupt to at most `inputs_length` ids, and the ids of their target.

    The rule of T5's `random_spans_helper` (`t5/data/preprocessors.py`), with the counts of
    `corrupt_spans`, so that the promise holds where upstream's f64 and f32 roundings disagree.

    Args:
        inputs_length: Ids of the corrupted row, sentinels and EOS included; at least 3.
        noise_density: As in `corrupt_spans`.
        mean_noise_span_length: As in `corrupt_spans`.

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
        return _core.span_lengths(tokens, noise_density, mean_noise_span_length)

    # A longer row never corrupts to fewer ids, so the last row that fits can be bisected.
    tokens = bisect_right(range(1 << 31), limit, key=lambda tokens: lengths(tokens)[0]) - 1
    if tokens < 2:
        raise MetroFastError(f"inputs_length is {limit}, expected at least 3")
    targets = lengths(tokens)[1]
    if noise_density == 0.5 and targets > inputs_length:
        # T5's own exception, which keeps both sides at or below `inputs_length`.
        return tokens - 1, targets - 1
    return tokens, targets
