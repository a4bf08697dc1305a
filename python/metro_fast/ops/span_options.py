"""The options of `corrupt_spans`, checked once and used for many batches."""

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from metro_fast import _core
from metro_fast.errors import MetroFastError
from metro_fast.ops.arrays import Array, contiguous, integers, view
from metro_fast.ops.denoiser import Denoiser, as_denoisers
from metro_fast.ops.draws import check_counter


def span_options(
    *,
    denoisers: Denoiser | Sequence[Denoiser],
    weights: Sequence[Sequence[float]] | None = None,
    sentinel_first: int = 32099,
    sentinel_step: int = -1,
    num_sentinels: int = 100,
    on_sentinel_shortage: Literal["error", "clamp"] = "error",
    eos_token_id: int | None = 1,
    target_end_token_id: int | None = None,
    pad_token_id: int = 0,
    decoder_start_token_id: int | None = None,
    vocab_size: int | None = None,
    word_starts: Array | None = None,
    special_token_ids: Iterable[int] = (),
    max_input_length: int | None = None,
    max_target_length: int | None = None,
) -> _core.SpanOptions:
    """Check the options; see `corrupt_spans` for them.

    `weights` are the weights of the denoisers in every phase of training; by default there is one
    phase, with their own.

    Raises:
        MetroFastError: If one is outside its domain.
        TypeError: If one has the wrong type.
    """
    tasks = as_denoisers(denoisers)
    if on_sentinel_shortage not in ("error", "clamp"):
        raise MetroFastError(
            f"on_sentinel_shortage is {on_sentinel_shortage!r}, expected 'error' or 'clamp'"
        )
    if weights is None:
        weights = [[task.weight for task in tasks]]
    end = eos_token_id if target_end_token_id is None else target_end_token_id
    start = pad_token_id if decoder_start_token_id is None else decoder_start_token_id
    return _core.SpanOptions(
        tasks,
        [list(phase) for phase in weights],
        sentinel_first=check_counter("sentinel_first", sentinel_first),
        sentinel_step=sentinel_step,
        num_sentinels=check_counter("num_sentinels", num_sentinels),
        clamp_sentinels=on_sentinel_shortage == "clamp",
        eos_token_id=_optional("eos_token_id", eos_token_id),
        target_end_token_id=_optional("target_end_token_id", end),
        pad_token_id=check_counter("pad_token_id", pad_token_id),
        decoder_start_token_id=check_counter("decoder_start_token_id", start),
        vocab_size=_optional("vocab_size", vocab_size),
        word_starts=as_table(word_starts),
        special_token_ids=integers("special_token_ids", list(special_token_ids)).tolist(),
        max_input_length=_optional("max_input_length", max_input_length),
        max_target_length=_optional("max_target_length", max_target_length),
    )


def as_table(word_starts: Array | None) -> "np.ndarray[tuple[int], np.dtype[np.bool_]] | None":
    """The word-start table as a contiguous array.

    Raises:
        TypeError: If it is not bool in one dimension.
    """
    if word_starts is None:
        return None
    table = view("word_starts", word_starts)
    if table.dtype != np.bool_ or table.ndim != 1:
        raise TypeError(
            f"word_starts has dtype {table.dtype} and {table.ndim} dimensions, expected bool in 1: "
            "whether each id of the vocabulary starts a word"
        )
    return contiguous(table)


def _optional(name: str, value: int | None) -> int | None:
    return None if value is None else check_counter(name, value)
