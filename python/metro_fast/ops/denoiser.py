"""The description of a denoising task: which tokens are noise, and what the model sees of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from types import NoneType
from typing import Literal, TypeAlias

import numpy as np

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.ops.settings import Settings
from metro_fast.ops.span_lengths import SpanLengths

Noise: TypeAlias = Literal[
    "random_spans", "iid", "regular_spans", "prefix", "sampled_spans", "metro_t0"
]
Inputs: TypeAlias = Literal["unique_sentinels", "one_sentinel", "sentinel_per_token", "drop"]
Targets: TypeAlias = Literal["unique_sentinels", "drop", "whole"]

_NUMBERS = ("noise_density", "mean_noise_span_length", "empty_probability", "weight")


@dataclass(frozen=True, repr=False)
class Denoiser(Settings):
    """One task of `corrupt_spans`; docs/denoising.md is the specification.

    Attributes:
        noise: Which tokens are noise: T5's `"random_spans"` (exact counts, two uniform
            compositions), `"iid"` (each token by itself; neighbors merge), `"regular_spans"`, and
            `"prefix"` (all but a random prefix); `"sampled_spans"` (exact count, lengths from
            `span_lengths`, no two spans in the same gap); `"metro_t0"` (METRO-T0's baseline, with
            empty spans).
        noise_density: Share of noise tokens, in [0, 1); at most 0.5 for `"prefix"`.
        mean_noise_span_length: Mean number of tokens in a span of `"random_spans"`, at least 1.
        compat: Rule for the number of spans: `"t5"` is noise / mean, `"hf"` is
            min(noise, kept) / mean.
        span_lengths: Distribution of the lengths of `"sampled_spans"`.
        span_length_range: Shortest and longest span of `"regular_spans"`.
        max_span_length: Longest span of `"metro_t0"` before neighbors merge.
        empty_probability: Share of the noise of `"metro_t0"` that is empty spans.
        upstream: Whether spans of `"metro_t0"` wrap around to the first token, as upstream's do.
        inputs: How the inputs show a span: as a sentinel of its own, as the first sentinel, as the
            first sentinel for every token, or not at all.
        targets: Spans after their sentinels, the noise tokens alone, or the whole row.
        prefix_token_id: Id at the start of the inputs, such as a mode token of UL2.
        weight: Relative share of the rows of a mixture; 0 switches the task off.

    Example:
        >>> Denoiser(noise="prefix", noise_density=0.25, inputs="drop", targets="drop")
        Denoiser(noise='prefix', noise_density=0.25, inputs='drop', targets='drop')
    """

    noise: Noise = "random_spans"
    noise_density: float = 0.15
    mean_noise_span_length: float = 3.0
    compat: Literal["t5", "hf"] = "t5"
    span_lengths: SpanLengths | None = None
    span_length_range: tuple[int, int] = (1, 5)
    max_span_length: int = 5
    empty_probability: float = 0.1
    upstream: bool = False
    inputs: Inputs = "unique_sentinels"
    targets: Targets = "unique_sentinels"
    prefix_token_id: int | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        self._check_types(str, "a string", "noise", "compat", "inputs", "targets")
        self._check_types(Real, "a number", *_NUMBERS)
        self._check_types(Integral, "an integer", "max_span_length")
        self._check_types((Integral, NoneType), "an integer or None", "prefix_token_id")
        self._check_types((tuple, list, NoneType), "SpanLengths or None", "span_lengths")
        self._check_types((bool, np.bool_), "True or False", "upstream")
        bounds = self.span_length_range
        if not isinstance(bounds, tuple | list) or list(map(_is_integer, bounds)) != [True, True]:
            raise TypeError(f"span_length_range is {quoted(bounds)}, expected two integers")
        if (self.noise == "sampled_spans") != (self.span_lengths is not None):
            raise MetroFastError(
                f"noise is {quoted(self.noise)} and span_lengths is "
                f"{quoted(self.span_lengths)}, expected span_lengths with noise "
                "'sampled_spans' and with no other"
            )


def ul2_denoisers(
    *,
    r_token_id: int | None = None,
    x_token_id: int | None = None,
    s_token_id: int | None = None,
    prefix_sentinel: bool = False,
) -> tuple[Denoiser, ...]:
    """The seven denoisers of UL2 (arXiv 2205.05131, table 1), equally likely.

    R has spans of 3 and of 8 tokens on average, at 15 %. X has 3 and 8 at 50 %, and 64 at 15 % and
    at 50 %. S is prefix language modeling with a quarter of the tokens, on average, in the target.

    Args:
        r_token_id: Mode token of R (`[NLU]`), or None.
        x_token_id: Mode token of X (`[NLG]`), or None.
        s_token_id: Mode token of S (`[S2S]`), or None.
        prefix_sentinel: Whether S marks its target with the first sentinel, on both sides.

    Example:
        >>> [(d.mean_noise_span_length, d.noise_density) for d in ul2_denoisers()[:2]]
        [(3.0, 0.15), (8.0, 0.15)]
    """
    regular = [Denoiser(mean_noise_span_length=m, prefix_token_id=r_token_id) for m in (3.0, 8.0)]
    extreme = [
        Denoiser(noise_density=d, mean_noise_span_length=m, prefix_token_id=x_token_id)
        for m, d in ((3.0, 0.5), (8.0, 0.5), (64.0, 0.15), (64.0, 0.5))
    ]
    sequential = Denoiser(
        noise="prefix",
        noise_density=0.25,
        inputs="unique_sentinels" if prefix_sentinel else "drop",
        targets="unique_sentinels" if prefix_sentinel else "drop",
        prefix_token_id=s_token_id,
    )
    return (*regular, *extreme, sequential)


def metro_t0_baseline(
    *, noise_density: float = 0.15, max_span_length: int = 5, upstream: bool = False
) -> Denoiser:
    """The span task of METRO-T0's baseline (arXiv 2305.12567): spans of 1 to 5, a tenth empty.

    Upstream counts its sentinels up from the second one, appends nothing to the inputs, and ends
    its targets with the first sentinel S. To do the same, give `corrupt_spans`
    `vocabulary=Vocabulary(sentinel_first=S + 1, sentinel_step=1, eos_token_id=None,
    target_end_token_id=S)`.

    Args:
        noise_density: Share of noise tokens.
        max_span_length: Longest span before neighbors merge.
        upstream: Whether spans wrap around to the first token, as upstream's do.

    Example:
        >>> metro_t0_baseline()
        Denoiser(noise='metro_t0')
    """
    return Denoiser(
        noise="metro_t0",
        noise_density=noise_density,
        max_span_length=max_span_length,
        upstream=upstream,
    )


def _is_integer(value: object) -> bool:
    return isinstance(value, Integral)


def as_denoisers(value: Denoiser | Sequence[Denoiser]) -> tuple[Denoiser, ...]:
    """One denoiser, or a sequence of them, as a tuple.

    Raises:
        TypeError: If an element is not a `Denoiser`.
    """
    denoisers = (value,) if isinstance(value, Denoiser) else tuple(value)
    for denoiser in denoisers:
        if not isinstance(denoiser, Denoiser):
            raise TypeError(f"denoisers holds a {type(denoiser).__name__}, expected Denoiser")
    return denoisers
