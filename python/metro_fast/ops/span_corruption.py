"""The settings of `corrupt_spans`, checked once and used for many batches."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypedDict

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.ops.denoiser import Denoiser, as_denoisers
from metro_fast.ops.settings import Settings, replaced, split_keywords
from metro_fast.ops.vocabulary import Vocabulary, check_optional

_T5 = (Denoiser(),)


@dataclass(frozen=True, kw_only=True, repr=False)
class SpanCorruption(Settings):
    """The denoisers of `corrupt_spans`, and the limits of its results.

    Attributes:
        denoisers: One task, or several, of which each row gets one according to their weights.
        weights: Weights of the denoisers in each phase of training. By default there is one phase,
            with the weights that the denoisers carry.
        on_sentinel_shortage: If a row has more spans than the vocabulary has sentinels, `"error"`
            refuses the row and `"clamp"` hides only as many spans as there are sentinels.
        max_input_length: Number of ids to which the inputs are cut, including their end.
        max_target_length: Number of ids to which the labels are cut, including their end.

    Raises:
        MetroFastError: If a value is outside its domain.
        TypeError: If a value has the wrong type.

    Example:
        >>> SpanCorruption(denoisers=Denoiser(noise="iid"), max_input_length=512)
        SpanCorruption(denoisers=(Denoiser(noise='iid'),), max_input_length=512)
    """

    denoisers: Denoiser | Sequence[Denoiser] = _T5
    weights: Sequence[Sequence[float]] | None = None
    on_sentinel_shortage: Literal["error", "clamp"] = "error"
    max_input_length: int | None = None
    max_target_length: int | None = None

    def __post_init__(self) -> None:
        if self.on_sentinel_shortage not in ("error", "clamp"):
            raise MetroFastError(
                f"on_sentinel_shortage is {quoted(self.on_sentinel_shortage)}, expected 'error' or "
                "'clamp'"
            )
        phases = None if self.weights is None else tuple(tuple(phase) for phase in self.weights)
        self._set(
            denoisers=as_denoisers(self.denoisers),
            weights=phases,
            max_input_length=check_optional("max_input_length", self.max_input_length),
            max_target_length=check_optional("max_target_length", self.max_target_length),
        )


_CORRUPTION, _VOCABULARY = SpanCorruption(), Vocabulary()
_HOMES: dict[str, type[Settings]] = {
    "denoiser": Denoiser,
    "corruption": SpanCorruption,
    "vocabulary": Vocabulary,
}


class SpanKeywords(TypedDict, total=False):
    """The everyday settings of span corruption, which functions and collators take as keywords."""

    noise_density: float
    mean_noise_span_length: float
    denoisers: Denoiser | Sequence[Denoiser]
    sentinel_first: int
    eos_token_id: int | None
    pad_token_id: int


def span_settings(
    corruption: SpanCorruption | None,
    vocabulary: Vocabulary | None,
    given: SpanKeywords,
    function: str = "corrupt_spans",
) -> tuple[SpanCorruption, Vocabulary]:
    """The settings of a call, with its keywords in the place of their fields.

    Raises:
        MetroFastError: If `noise_density` or `mean_noise_span_length` is given with denoisers.
        TypeError: If a keyword is unknown.
    """
    known = SpanKeywords.__optional_keys__
    of_task, of_corruption, of_vocabulary = split_keywords(function, known, _HOMES, given)
    corruption = replaced(corruption or _CORRUPTION, of_corruption)
    if of_task:
        if corruption.denoisers != _T5 or "denoisers" in of_corruption:
            raise MetroFastError(
                "noise_density and mean_noise_span_length are settings of the default denoiser: if "
                "you give denoisers, set them there"
            )
        corruption = replace(corruption, denoisers=Denoiser(**of_task))
    return corruption, replaced(vocabulary or _VOCABULARY, of_vocabulary)
