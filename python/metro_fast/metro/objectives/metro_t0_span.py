"""The T5 baseline of METRO-T0's own code: uniform spans, some of them empty."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from metro_fast._ranges import check_at_least, check_fraction, check_share
from metro_fast.data import DataCollatorForSpanCorruption, span_vocabulary
from metro_fast.metro.objectives.recipe import Recipe
from metro_fast.metro.objectives.seq2seq import no_auxiliary, seq2seq_losses, seq2seq_model
from metro_fast.metro.settings import Section
from metro_fast.ops import SpanCorruption, metro_t0_baseline


@dataclass(frozen=True, kw_only=True, repr=False)
class MetroT0SpanSettings(Section):
    """Settings of the objective `metro_t0_span`, the baseline of arXiv 2305.12567.

    Attributes:
        noise_density: Share of tokens that are noise, empty spans included.
        max_span_length: Lengths are uniform on 1 to this, before neighbors merge.
        empty_probability: Share of the noise that is empty spans, whose sentinels stand for
            nothing.
        upstream: Whether rows look as in the published code: spans wrap around to the first token,
            inputs have no EOS, the first sentinel ends the targets, and spans get the others.
        on_sentinel_shortage: If a row has more spans than the tokenizer has sentinels, "error"
            stops, and "clamp" hides only as many spans as there are sentinels.
    """

    noise_density: float = 0.15
    max_span_length: int = 5
    empty_probability: float = 0.1
    upstream: bool = False
    on_sentinel_shortage: Literal["error", "clamp"] = "error"

    def __post_init__(self) -> None:
        check_share(noise_density=self.noise_density)
        check_at_least(1, max_span_length=self.max_span_length)
        check_fraction(empty_probability=self.empty_probability)


def _collator(
    tokenizer: Any, settings: MetroT0SpanSettings, seed: int
) -> DataCollatorForSpanCorruption:
    task = metro_t0_baseline(
        noise_density=settings.noise_density,
        max_span_length=settings.max_span_length,
        upstream=settings.upstream,
    )
    corruption = SpanCorruption(
        denoisers=replace(task, empty_probability=settings.empty_probability),
        on_sentinel_shortage=settings.on_sentinel_shortage,
    )
    vocabulary = span_vocabulary(tokenizer)
    if settings.upstream:
        vocabulary = replace(
            vocabulary,
            sentinel_first=vocabulary.sentinel_first + vocabulary.sentinel_step,
            num_sentinels=vocabulary.num_sentinels - 1,
            eos_token_id=None,
            target_end_token_id=vocabulary.sentinel_first,
        )
    return DataCollatorForSpanCorruption(
        tokenizer, vocabulary=vocabulary, corruption=corruption, seed=seed
    )


METRO_T0_SPAN = Recipe(
    name="metro_t0_span",
    settings=MetroT0SpanSettings,
    documented_by=(MetroT0SpanSettings,),
    has_auxiliary=False,
    check=no_auxiliary,
    collator=_collator,
    model=seq2seq_model,
    losses=seq2seq_losses,
)
