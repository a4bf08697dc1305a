"""UL2's mixture of denoisers, and with it prefix language modeling."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from metro_fast._ranges import check_not_negative
from metro_fast.data import DataCollatorForUL2
from metro_fast.data.collate_ul2 import mode_token_ids
from metro_fast.data.vocabulary import vocabulary_size
from metro_fast.errors import MetroFastError
from metro_fast.metro.objectives.recipe import Recipe
from metro_fast.metro.objectives.seq2seq import no_auxiliary, seq2seq_losses, seq2seq_model
from metro_fast.metro.settings import Section
from metro_fast.ops import SpanCorruption, Vocabulary, ul2_denoisers

_R, _X, _S = slice(0, 2), slice(2, 6), slice(6, 7)


@dataclass(frozen=True, kw_only=True, repr=False)
class Ul2Settings(Section):
    """Settings of the objective `ul2` (arXiv 2205.05131).

    With `r_weight` and `x_weight` 0 it is prefix language modeling, which needs no sentinels.

    Attributes:
        mode_tokens: Whether the inputs begin with [NLU], [NLG] or [S2S], which the tokenizer must
            then have.
        r_weight: Relative share of the two regular denoisers: spans of 3 and of 8 at 15 %.
        x_weight: Relative share of the four extreme ones: spans of 3 and 8 at 50 %, of 64 at 15 %
            and 50 %.
        s_weight: Relative share of the sequential one: a quarter of the tokens, on average, is
            predicted from the prefix before it.
        prefix_sentinel: Whether the sequential one marks its target with the first sentinel.
        on_sentinel_shortage: If a row has more spans than the tokenizer has sentinels, "error"
            stops, and "clamp" hides only as many spans as there are sentinels.
    """

    mode_tokens: bool = False
    r_weight: float = 2.0
    x_weight: float = 4.0
    s_weight: float = 1.0
    prefix_sentinel: bool = False
    on_sentinel_shortage: Literal["error", "clamp"] = "error"

    def __post_init__(self) -> None:
        weights = (self.r_weight, self.x_weight, self.s_weight)
        check_not_negative(r_weight=weights[0], x_weight=weights[1], s_weight=weights[2])
        if not any(weights):
            raise MetroFastError(
                "r_weight, x_weight and s_weight are all 0, expected at least one above 0"
            )

    @property
    def needs_sentinels(self) -> bool:
        """Whether any row of the mixture has a sentinel."""
        return self.r_weight > 0 or self.x_weight > 0 or self.prefix_sentinel


def _collator(tokenizer: Any, settings: Ul2Settings, seed: int) -> DataCollatorForUL2:
    r, x, s = mode_token_ids(tokenizer) if settings.mode_tokens else (None, None, None)
    tasks = ul2_denoisers(
        r_token_id=r, x_token_id=x, s_token_id=s, prefix_sentinel=settings.prefix_sentinel
    )
    shares = ((_R, settings.r_weight), (_X, settings.x_weight), (_S, settings.s_weight))
    weighted = [
        replace(task, weight=weight / len(tasks[part]))
        for part, weight in shares
        for task in tasks[part]
    ]
    options: dict[str, Any] = {"seed": seed}
    if not settings.needs_sentinels:
        # A tokenizer such as Gemma's has none, and prefixes do without: this id is never written.
        options["vocabulary"] = Vocabulary(
            sentinel_first=vocabulary_size(tokenizer),
            num_sentinels=1,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    return DataCollatorForUL2(
        tokenizer,
        mode_tokens=None,
        corruption=SpanCorruption(on_sentinel_shortage=settings.on_sentinel_shortage),
        denoisers=weighted,
        **options,
    )


UL2 = Recipe(
    name="ul2",
    settings=Ul2Settings,
    documented_by=(Ul2Settings,),
    has_auxiliary=False,
    check=no_auxiliary,
    collator=_collator,
    model=seq2seq_model,
    losses=seq2seq_losses,
)
