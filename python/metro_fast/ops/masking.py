"""The settings of `mask_tokens`, checked once and used for many batches."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real
from typing import Any, Literal, Self, TypedDict

from metro_fast._shown import quoted
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
        raise TypeError(f"random_token_range is {quoted(given)}, expected (start, end)")
    start, end = (check_counter("random_token_range", value) for value in given)
    return start, end


@dataclass(frozen=True, kw_only=True, repr=False)
class Masking(Settings):
    """How many tokens `mask_tokens` masks, and what it puts in their places.

    Attributes:
        count: `"metro"` draws `floor(mlm_probability * n + U)` of the n eligible tokens without
            replacement; `"electra"` draws `max(1, round(mlm_probability * n))` times with
            replacement, where n counts special tokens too. With a vocabulary's `word_starts` both
            count and draw whole words.
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

    @classmethod
    def metro(cls, **changes: Any) -> Self:
        """METRO-T0's masks: the defaults, 15 % of the tokens as 80/10/10.

        Args:
            **changes: Other values of fields.

        Example:
            >>> Masking.metro(mlm_probability=0.2)
            Masking(mlm_probability=0.2)
        """
        return cls(**changes)

    @classmethod
    def electra(cls, **changes: Any) -> Self:
        """ELECTRA's masks (google-research/electra, `pretrain_helpers.mask`).

        The tokens are drawn with replacement, and become the mask token at 85 %; the others are
        kept. ELECTRA masks 15 % of the tokens, its large model 25 %, and at most
        `max_masked=int((mlm_probability + 0.005) * length)` of them. `[CLS]`, `[SEP]`, `[MASK]` and
        padding are not eligible: name them in `special_token_ids`.

        Args:
            **changes: Other values of fields.

        Example:
            >>> Masking.electra(mlm_probability=0.25, max_masked=130).count
            'electra'
        """
        values = {"count": "electra", "mask_replace_prob": 0.85, "random_replace_prob": 0.0}
        return cls(**{**values, **changes})

    @classmethod
    def coco_lm(cls, **changes: Any) -> Self:
        """COCO-LM's masks (arXiv 2102.08473), as far as they are published: METRO's.

        The task that made them is not in microsoft/COCO-LM. The paper masks 15 % of the tokens, and
        the code of METRO, by some of its authors, draws the exact count of `"metro"` as 80/10/10,
        so this does the same. What COCO-LM's `mask_cls` decides, whether the first token may be
        masked, is decided by `special_token_ids` here.

        Args:
            **changes: Other values of fields.

        Example:
            >>> Masking.coco_lm() == Masking.metro()
            True
        """
        return cls(**changes)

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
