"""How a model is finetuned: the method, its own settings, and the limits of the texts."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from metro_fast._ranges import (
    check_above_zero,
    check_at_least,
    check_choice,
    check_fraction,
    check_not_negative,
)
from metro_fast._training.schedule import Schedule

Method = Literal["full", "lora"]


@dataclass(frozen=True, kw_only=True, repr=False)
class TuningOptions(Schedule):
    """Options of `finetune_model`.

    Attributes:
        method: "full" trains every weight, "lora" trains a low-rank adapter (peft).
        rank: LoRA's rank.
        alpha: LoRA's alpha; the update is scaled by alpha / rank.
        lora_dropout: Dropout before LoRA's A.
        lora_init_std: Standard deviation of A at the start; 0 keeps PEFT's Kaiming-uniform A. With
            a small one (0.01), A holds almost only what it learned, so compression loses less.
        target_modules: Names of the linear layers that get an adapter; empty means all but the
            head.
        max_input_length: Tokens of an input; the rest is cut.
        max_target_length: Tokens of a target; the rest is cut.
    """

    method: Method = "full"
    rank: int = 8
    alpha: float = 16.0
    lora_dropout: float = 0.0
    lora_init_std: float = 0.0
    target_modules: list[str] = field(default_factory=list)
    max_input_length: int = 512
    max_target_length: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(get_args(Method), method=self.method)
        check_at_least(1, rank=self.rank)
        check_above_zero(alpha=self.alpha)
        check_fraction(lora_dropout=self.lora_dropout)
        check_not_negative(lora_init_std=self.lora_init_std)
