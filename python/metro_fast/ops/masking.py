"""The settings of `mask_tokens`, checked once and used for many batches."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real
from typing import Literal, TypedDict

from metro_fast.errors import MetroFastError
from metro_fast.ops.draws import check_counter
from metro_fast.ops.settings import Settings, replaced, split_keywords
from metro_fast.ops.vocabulary import Vocabulary, check_optional

_NUMBERS = (
    "mlm_probability",
    "mask_span_length",
    "mask_span_stdev",
    "mask_replace_prob",
    "random_replace_prob",
)


def _range(given: tuple[int, int] | None) -> tuple[int, int] | None:
    if given is None:
        return None
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise TypeError(f"random_token_range is {given!r}, expected (start, end)")
    start, end = (check_counter("random_token_range", value) for value in given)
    return start, end


@dataclass(frozen=True, kw_only=True, repr=False)
class Masking(Settings):
    """How many tokens `mask_tokens` masks, and what it puts in their places.

    Attributes:
        count: `"metro"` draws `floor(mlm_probability * n + U)` of the n eligible tokens without
            replacement; `"electra"` draws `max(1, round(mlm_probability * n))` times with
            replacement, where n counts special tokens too.
        mlm_probability: Share of the eligible tokens that is masked, in [0, 1].
        max_masked: Largest number of draws in a row, or None.
        mask_span_length: Mean number of tokens in a masked span. If it is not 1,
            `floor(mlm_probability * n / mask_span_length + U)` spans start at random tokens. They
            may overlap, and they end with the row at the latest.
        mask_span_stdev: Lengths of spans are `max(0, round(N(mask_span_length, this)))`.
        mask_replace_prob: Share of the masked tokens that becomes the mask token.
        random_replace_prob: Share of the masked tokens that becomes a random token.
        random_token_range: Random ids are uniform on (start, end) without the special ids; the
            whole vocabulary by default.

    Raises:
        MetroFastError: If a value is outside its domain.
        TypeError: If a value has the wrong type.

    Example:
        >>> Masking(count="electra", random_replace_prob=0.0)
        Masking(count='electra', random_replace_prob=0.0)
    """

    count: Literal["metro", "electra"] = "metro"
    mlm_probability: float = 0.15
    max_masked: int | None = None
    mask_span_length: int = 1
    mask_span_stdev: float = 0.0
    mask_replace_prob: float = 0.8
    random_replace_prob: float = 0.1
    random_token_range: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        self._check_types(str, "a string", "count")
        self._check_types(Real, "a number", *_NUMBERS)
        length, stdev = self.mask_span_length, self.mask_span_stdev
        if not 1 <= length <= 1 << 16 or not 0 <= stdev <= 1 << 16:
            raise MetroFastError(
                f"mask_span_length is {length} and mask_span_stdev is {stdev}, expected 1 to 2**16 "
                "tokens and 0 to 2**16"
            )
        self._set(
            max_masked=check_optional("max_masked", self.max_masked),
            random_token_range=_range(self.random_token_range),
        )

    @property
    def span_table(self) -> list[float] | None:
        """Probabilities of spans of 0, 1, 2, ... tokens; None if single tokens are masked."""
        length, stdev = self.mask_span_length, self.mask_span_stdev
        if stdev == 0:
            return None if length == 1 else [0.0] * length + [1.0]
        # Less than 2^-32 of the distribution is beyond 8 standard deviations.
        steps = range(math.ceil(length + 8 * stdev) + 1)
        below = [0.5 * math.erfc((length - step - 0.5) / (stdev * math.sqrt(2))) for step in steps]
        return [below[0], *(after - before for before, after in pairwise(below))]


_MASKING, _VOCABULARY = Masking(), Vocabulary()
_HOMES: dict[str, type[Settings]] = {"masking": Masking, "vocabulary": Vocabulary}


class MaskKeywords(TypedDict, total=False):
    """The everyday settings of masking, which functions and collators take as keywords."""

    mlm_probability: float
    mask_token_id: int
    vocab_size: int
    special_token_ids: Iterable[int]
    pad_token_id: int


def mask_settings(
    masking: Masking | None,
    vocabulary: Vocabulary | None,
    given: MaskKeywords,
    function: str = "mask_tokens",
) -> tuple[Masking, Vocabulary]:
    """The settings of a call, with its keywords in the place of their fields.

    Raises:
        TypeError: If a keyword is unknown, or there is no mask token or size of the vocabulary.
    """
    known = MaskKeywords.__optional_keys__
    of_masking, of_vocabulary = split_keywords(function, known, _HOMES, given)
    vocabulary = replaced(vocabulary or _VOCABULARY, of_vocabulary)
    for name in ("mask_token_id", "vocab_size"):
        if getattr(vocabulary, name) is None:
            raise TypeError(f"{name} is None, expected an integer: {function} needs it")
    return replaced(masking or _MASKING, of_masking), vocabulary
