"""T5's span corruption, the baseline of METRO's paper and of most others."""

from dataclasses import dataclass
from typing import Any, Literal

from metro_fast._ranges import check_at_least, check_share
from metro_fast.data import DataCollatorForSpanCorruption
from metro_fast.metro.objectives.recipe import Recipe
from metro_fast.metro.objectives.seq2seq import no_auxiliary, seq2seq_losses, seq2seq_model
from metro_fast.metro.settings import Section
from metro_fast.ops import Denoiser, SpanCorruption


@dataclass(frozen=True, kw_only=True, repr=False)
class SpanSettings(Section):
    """Settings of the objective `span` (T5, arXiv 1910.10683).

    Attributes:
        noise_density: Share of tokens that span corruption removes.
        mean_span_length: Mean length of the spans that it removes.
        on_sentinel_shortage: If a row has more spans than the tokenizer has sentinels, "error"
            stops, and "clamp" hides only as many spans as there are sentinels.
    """

    noise_density: float = 0.15
    mean_span_length: float = 3.0
    on_sentinel_shortage: Literal["error", "clamp"] = "error"

    def __post_init__(self) -> None:
        check_share(noise_density=self.noise_density)
        check_at_least(1, mean_span_length=self.mean_span_length)


def _collator(tokenizer: Any, settings: SpanSettings, seed: int) -> DataCollatorForSpanCorruption:
    task = Denoiser(
        noise_density=settings.noise_density, mean_noise_span_length=settings.mean_span_length
    )
    corruption = SpanCorruption(denoisers=task, on_sentinel_shortage=settings.on_sentinel_shortage)
    return DataCollatorForSpanCorruption(tokenizer, corruption=corruption, seed=seed)


SPAN = Recipe(
    name="span",
    settings=SpanSettings,
    documented_by=(SpanSettings,),
    has_auxiliary=False,
    check=no_auxiliary,
    collator=_collator,
    model=seq2seq_model,
    losses=seq2seq_losses,
)
