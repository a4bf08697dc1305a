"""The ids of a vocabulary that have a meaning of their own."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metro_fast.ops.arrays import Array, contiguous, integers, view
from metro_fast.ops.draws import check_counter
from metro_fast.ops.settings import Settings

_REQUIRED = ("sentinel_first", "num_sentinels", "pad_token_id")
_OPTIONAL = (
    "vocab_size",
    "eos_token_id",
    "target_end_token_id",
    "decoder_start_token_id",
    "mask_token_id",
)
_IDS = (*_REQUIRED, *_OPTIONAL)


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Vocabulary(Settings):
    """The special ids of a vocabulary, for `corrupt_spans`, `mask_tokens` and their collators.

    The defaults are those of T5. Two objects are equal only if they are the same object, because
    the arrays that `word_starts` may hold have no single answer to `==`.

    Attributes:
        vocab_size: Ids run from 0 to `vocab_size - 1`; others are refused. `mask_tokens` needs it.
        sentinel_first: Id of the first sentinel (`<extra_id_0>`).
        sentinel_step: 1 or -1, the difference between a sentinel and the next.
        num_sentinels: Number of sentinels.
        eos_token_id: Id that ends inputs and labels, or None.
        target_end_token_id: Id that ends the labels; `eos_token_id` by default.
        pad_token_id: Id that fills short rows of the inputs.
        decoder_start_token_id: If given, `corrupt_spans` also makes `decoder_input_ids`, which
            start with this id.
        mask_token_id: Id of the mask token. `mask_tokens` needs it.
        special_token_ids: Ids that are never noise, never masked, and never drawn at random.
        word_starts: bool [V], whether each id starts a word. If given, whole words are hidden or
            masked, and counts and lengths are in words.

    Raises:
        MetroFastError: If an id or a size is negative.
        TypeError: If a value has the wrong type.

    Example:
        >>> Vocabulary(sentinel_first=32_127, special_token_ids=[0, 1])
        Vocabulary(sentinel_first=32127, special_token_ids=(0, 1))
    """

    vocab_size: int | None = None
    sentinel_first: int = 32099
    sentinel_step: int = -1
    num_sentinels: int = 100
    eos_token_id: int | None = 1
    target_end_token_id: int | None = None
    pad_token_id: int = 0
    decoder_start_token_id: int | None = None
    mask_token_id: int | None = None
    special_token_ids: Iterable[int] = ()
    word_starts: Array | None = None

    def __post_init__(self) -> None:
        for name in _IDS:
            value = getattr(self, name)
            if value is not None or name not in _OPTIONAL:
                number = check_counter(name, value)
                # Every write takes 0.5 µs, and few values need one.
                if number is not value:
                    self._set(**{name: number})
        if self.special_token_ids != ():
            special = integers("special_token_ids", list(self.special_token_ids)).tolist()
            self._set(special_token_ids=tuple(special))
        if self.word_starts is not None:
            self._set(word_starts=_as_table(self.word_starts))


def check_optional(name: str, value: int | None) -> int | None:
    """`check_counter` of a value that may be None."""
    return None if value is None else check_counter(name, value)


def _as_table(word_starts: Array) -> npt.NDArray[np.bool_]:
    """The word-start table as a contiguous array.

    Raises:
        TypeError: If it is not bool in one dimension.
    """
    table = view("word_starts", word_starts)
    if table.dtype != np.bool_ or table.ndim != 1:
        raise TypeError(
            f"word_starts has dtype {table.dtype} and {table.ndim} dimensions, expected bool in 1: "
            "for each id of the vocabulary, whether it starts a word"
        )
    return contiguous(table)
