"""Span corruption of a batch: T5's, and its relatives."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from metro_fast import _core
from metro_fast.errors import MetroFastError
from metro_fast.ops.arrays import Array, contiguous, give, integers, is_tensor, view
from metro_fast.ops.denoiser import Denoiser
from metro_fast.ops.draws import check_counter, resolve_threads
from metro_fast.ops.outputs import Outputs
from metro_fast.ops.span_options import span_options
from metro_fast.ops.text_ranges import TextRanges

GRAIN = 1 << 19
"""Tokens of a thread's share that pay for its start: at 512 rows of 568 two threads take as long as
one (0.21 ms), at 2,048 two thirds of it."""


class SpanBatch(NamedTuple):
    """Inputs and targets of a denoising step, padded to the longest of each.

    Attributes:
        input_ids: int64 or int32 [B, Li]: kept tokens, one sentinel a span, EOS; then the pad id.
        labels: int64 or int32 [B, Ll]: each sentinel with its span, EOS; then -100.
        input_lengths: int64 [B]: ids of each row of `input_ids` before its padding.
        label_lengths: int64 [B]: ids of each row of `labels` before its padding; their sum is what
            a mean loss divides by.
        denoisers: int64 [B]: number of each row's denoiser.
        attention_mask: Like `input_ids`: 1 for its ids, 0 for padding; None where not asked for.
        decoder_input_ids: Like `labels`, one to the right behind the start id, padded with the pad
            id; None where not asked for.
    """

    input_ids: Any
    labels: Any
    input_lengths: Any
    label_lengths: Any
    denoisers: Any
    attention_mask: Any = None
    decoder_input_ids: Any = None


def corrupt_spans(
    ids: Array,
    *,
    offsets: Array | None = None,
    sample_ids: Array | None = None,
    noise_density: float | None = None,
    mean_noise_span_length: float | None = None,
    denoisers: Denoiser | Sequence[Denoiser] | None = None,
    noise_mask: Array | None = None,
    sentinel_first: int = 32099,
    sentinel_step: int = -1,
    num_sentinels: int = 100,
    on_sentinel_shortage: Literal["error", "clamp"] = "error",
    eos_token_id: int | None = 1,
    target_end_token_id: int | None = None,
    pad_token_id: int = 0,
    decoder_start_token_id: int | None = None,
    attention_mask: bool = False,
    vocab_size: int | None = None,
    word_starts: Array | None = None,
    special_token_ids: Iterable[int] = (),
    max_input_length: int | None = None,
    max_target_length: int | None = None,
    seed: int = 0,
    epoch: int = 0,
    num_threads: int | None = None,
    dtype: npt.DTypeLike = np.int64,
    out: Sequence[Array | None] | None = None,
) -> SpanBatch:
    """Replace random spans by sentinels, and make the spans the target.

    By default the law is `random_spans_noise_mask` of google-research/text-to-text-transfer-
    transformer (`t5/data/preprocessors.py`): of a row of n tokens, `round(n * noise_density)` are
    noise, in `round(noise / mean_noise_span_length)` spans (half to even, at least 1, at most the
    noise and the kept tokens); the lengths of the spans and of the runs between them are two
    independent uniform compositions; a row starts with kept tokens and ends in noise. A single
    token, and any row at density 0, is kept whole and has the first sentinel as target. Other laws,
    and mixtures of them, are described by `denoisers`.

    The draw of a row is a function of (seed, epoch, sample id) alone.

    Args:
        ids: uint16, uint32, int32 or int64: [B, L], or flat together with `offsets`. Must not be
            changed during the call, and must not hold sentinels.
        offsets: int [B + 1]: row r is `ids[offsets[r]:offsets[r + 1]]`; no row may be empty.
        sample_ids: int [B], 0 or more: what names the rows; their index in the batch otherwise.
        noise_density: Share of noise tokens, in [0, 1); 0.15 by default.
        mean_noise_span_length: Mean tokens of a span, at least 1; 3 by default.
        denoisers: One task, or several of which each row gets one by their weights; instead of the
            two before.
        noise_mask: bool, of the shape of `ids`: the noise, instead of a draw.
        sentinel_first: Id of the first sentinel (`<extra_id_0>`).
        sentinel_step: 1 or -1: what leads from a sentinel to the next.
        num_sentinels: Sentinels of the vocabulary.
        on_sentinel_shortage: `"error"`, or `"clamp"`: no more spans than sentinels.
        eos_token_id: Id that ends inputs and labels, or None.
        target_end_token_id: Id that ends the labels; `eos_token_id` by default.
        pad_token_id: Id that fills short rows of the inputs.
        decoder_start_token_id: Where given, `decoder_input_ids` are made and start with it.
        attention_mask: Make the mask.
        vocab_size: Where given, ids at or above it are refused.
        word_starts: bool [V]: whether an id starts a word. Where given, whole words are hidden:
            counts and lengths are in words.
        special_token_ids: Ids that are never noise: where the law hides one, it is kept.
        max_input_length: Ids to which the inputs are cut, their end included.
        max_target_length: The same of the labels.
        seed: 0 to 2^63 - 1.
        epoch: 0 to 2^63 - 1.
        num_threads: Threads of the call; None for as many as pay.
        dtype: int64 or int32, of what is made. Cross-entropy in torch wants int64 labels.
        out: Arrays of one such type for `input_ids`, `labels` and, if wanted, `attention_mask` and
            `decoder_input_ids`, each [B, wide enough] (pinned tensors, say); they are returned.

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
    if denoisers is None:
        denoisers = Denoiser(
            noise_density=0.15 if noise_density is None else noise_density,
            mean_noise_span_length=(
                3.0 if mean_noise_span_length is None else mean_noise_span_length
            ),
        )
    elif noise_density is not None or mean_noise_span_length is not None:
        raise MetroFastError(
            "noise_density and mean_noise_span_length belong to the default law: with denoisers, "
            "give them there"
        )
    options = span_options(
        denoisers=denoisers,
        sentinel_first=sentinel_first,
        sentinel_step=sentinel_step,
        num_sentinels=num_sentinels,
        on_sentinel_shortage=on_sentinel_shortage,
        eos_token_id=eos_token_id,
        target_end_token_id=target_end_token_id,
        pad_token_id=pad_token_id,
        decoder_start_token_id=decoder_start_token_id,
        vocab_size=vocab_size,
        word_starts=word_starts,
        special_token_ids=special_token_ids,
        max_input_length=max_input_length,
        max_target_length=max_target_length,
    )
    return corrupt_with(
        options,
        ids,
        offsets=offsets,
        sample_ids=sample_ids,
        noise_mask=noise_mask,
        attention_mask=attention_mask,
        decoder_input_ids=decoder_start_token_id is not None,
        seed=seed,
        epoch=epoch,
        num_threads=num_threads,
        dtype=dtype,
        out=out,
    )


def corrupt_with(
    options: _core.SpanOptions,
    ids: Array | TextRanges,
    *,
    offsets: Array | None = None,
    sample_ids: Array | None = None,
    noise_mask: Array | None = None,
    phases: Array | None = None,
    attention_mask: bool = False,
    decoder_input_ids: bool = False,
    seed: int = 0,
    epoch: int = 0,
    num_threads: int | None = None,
    dtype: npt.DTypeLike = np.int64,
    out: Sequence[Array | None] | None = None,
    widths: tuple[int | None, int | None] = (None, None),
    multiple: int = 1,
) -> SpanBatch:
    """`corrupt_spans` with options that were checked before.

    Args:
        options: From `span_options`.
        ids: As there, or ranges of a text, which need sample ids.
        offsets: As there.
        sample_ids: As there.
        noise_mask: As there.
        phases: int [B]: which weights of the options a row's denoiser is drawn by.
        attention_mask: As there.
        decoder_input_ids: Make them.
        seed: As there.
        epoch: As there.
        num_threads: As there.
        dtype: As there.
        out: As there.
        widths: Of new inputs and labels; None for the longest row's.
        multiple: What the widths of new arrays are rounded up to.
    """
    if isinstance(ids, TextRanges):
        assert sample_ids is not None
        result = ids.files.corrupt_spans(
            ids.starts,
            ids.ends,
            integers("sample_ids", sample_ids),
            None if phases is None else integers("phases", phases),
            options,
            Outputs.read(out, dtype, {}, attention_mask, decoder_input_ids, widths, multiple),
            vocab_size=ids.vocab_size,
            seed=seed,
            epoch=epoch,
            num_threads=resolve_threads(num_threads, ids.size, GRAIN),
        )
        return as_batch(result, tensor=False, out=out)
    tensor = is_tensor(ids)
    array = contiguous(view("ids", ids))
    mask = None if noise_mask is None else _as_mask(noise_mask, array)
    read = {"ids": array, "offsets": offsets, "sample_ids": sample_ids, "noise_mask": mask}
    result = _core.corrupt_spans(
        array,
        None if offsets is None else integers("offsets", offsets),
        None if sample_ids is None else integers("sample_ids", sample_ids),
        mask,
        None if phases is None else integers("phases", phases),
        options,
        Outputs.read(out, dtype, read, attention_mask, decoder_input_ids, widths, multiple),
        seed=check_counter("seed", seed),
        epoch=check_counter("epoch", epoch),
        num_threads=resolve_threads(num_threads, array.size, GRAIN),
    )
    return as_batch(result, tensor=tensor, out=out)


def as_batch(
    result: tuple[Any, ...], *, tensor: bool, out: Sequence[Array | None] | None
) -> SpanBatch:
    """What the native module returned, as the caller's kind, and the caller's own arrays."""
    batch = SpanBatch(*(None if a is None else give(a, tensor=tensor) for a in result))
    if out is None:
        return batch
    names = ("input_ids", "labels", "attention_mask", "decoder_input_ids")
    given = {name: array for name, array in zip(names, out, strict=False) if array is not None}
    return batch._replace(**given)


def _as_mask(noise_mask: Array, ids: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    mask = view("noise_mask", noise_mask)
    if mask.dtype != np.bool_ or mask.shape != ids.shape:
        raise TypeError(
            f"noise_mask is an array of {mask.dtype} of shape {mask.shape}, expected bool of the "
            f"shape {ids.shape} of ids"
        )
    return contiguous(mask).reshape(-1).view(np.uint8)


def compute_input_and_target_lengths(
    inputs_length: int,
    noise_density: float = 0.15,
    mean_noise_span_length: float = 3.0,
    *,
    compat: Literal["t5", "hf"] = "t5",
) -> tuple[int, int]:
    """Raw tokens that corrupt to at most `inputs_length` ids, and the ids of their target.

    The rule of T5's `random_spans_helper` (`t5/data/preprocessors.py`), with the counts of
    `corrupt_spans`, so that the promise holds where upstream's f64 and f32 roundings disagree.

    Args:
        inputs_length: Ids of the corrupted row, sentinels and EOS included; at least 3.
        noise_density: As in `corrupt_spans`.
        mean_noise_span_length: As in `corrupt_spans`.
        compat: `"t5"`, or `"hf"` for the answer of transformers' `run_t5_mlm_flax.py` and of
            nanoT5: its number of spans, and never fewer than `inputs_length` tokens, which breaks
            the promise where a span is one token.

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

    # A longer row never corrupts to fewer ids, so the last row that fits can be bisected.
    tokens = bisect_right(range(1 << 31), limit, key=lambda tokens: lengths(tokens)[0]) - 1
    if tokens < 2:
        raise MetroFastError(f"inputs_length is {limit}, expected at least 3")
    if compat == "hf":
        tokens = max(tokens, limit)
    targets = lengths(tokens)[1]
    if noise_density == 0.5 and targets > inputs_length:
        # T5's own exception, which keeps both sides at or below `inputs_length`.
        return tokens - 1, targets - 1
    return tokens, targets
