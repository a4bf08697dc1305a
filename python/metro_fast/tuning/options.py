"""How a model is finetuned: the method, the schedule, the limits."""

import math
from dataclasses import dataclass, field

from metro_fast.errors import MetroFastError

METHODS = ("full", "lora")


@dataclass(frozen=True, kw_only=True)
class TuningOptions:
    """Options of `finetune_model`.

    Attributes:
        method: "full" trains every weight, "lora" trains a low-rank adapter (peft).
        rank: LoRA's rank.
        alpha: LoRA's alpha; the update is scaled by alpha / rank.
        lora_dropout: Dropout before LoRA's A.
        lora_init_std: Standard deviation of A at the start; 0 keeps PEFT's Kaiming-uniform A. A
            small one (0.01) makes A almost only what it learned, so that compressing it loses less.
        target_modules: Names of the linear layers with an adapter; empty means all but the head.
        steps: Optimizer steps.
        batch_size: Pairs a forward pass and rank.
        accumulation_steps: Forward passes an optimizer step.
        learning_rate: Peak rate; it rises linearly, then falls linearly to 0.
        warmup_steps: Steps of the rise.
        weight_decay: AdamW's decay of matrices.
        embedding_multiplier: Rate of the embeddings over learning_rate.
        relative_bias_multiplier: Rate of the relative attention biases over it.
        max_grad_norm: Gradients are clipped to this norm; 0 for no clipping.
        max_input_length: Tokens of an input, the rest is cut.
        max_target_length: Tokens of a target, the rest is cut.
        bf16: Whether to compute in bfloat16 (autocast).
        seed: Seed of adapter, order and dropout.
        logging_steps: Steps between log lines.
        save_steps: Steps between checkpoints; 0 saves none on the way.
        evaluation_steps: Steps between evaluations; 0 evaluates at the end only.
    """

    method: str = "full"
    rank: int = 8
    alpha: float = 16.0
    lora_dropout: float = 0.0
    lora_init_std: float = 0.0
    target_modules: list[str] = field(default_factory=list)
    steps: int = 1000
    batch_size: int = 32
    accumulation_steps: int = 1
    learning_rate: float = 1e-3
    warmup_steps: int = 50
    weight_decay: float = 0.0
    embedding_multiplier: float = 1.0
    relative_bias_multiplier: float = 1.0
    max_grad_norm: float = 1.0
    max_input_length: int = 512
    max_target_length: int = 128
    bf16: bool = False
    seed: int = 0
    logging_steps: int = 50
    save_steps: int = 0
    evaluation_steps: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise MetroFastError(f"method is {self.method!r}, expected {' or '.join(METHODS)}")
        for name in ("rank", "steps", "batch_size", "accumulation_steps", "logging_steps"):
            if getattr(self, name) < 1:
                raise MetroFastError(f"{name} is {getattr(self, name)}, expected at least 1")
        for name in ("warmup_steps", "save_steps", "evaluation_steps", "max_grad_norm"):
            if not getattr(self, name) >= 0:
                raise MetroFastError(f"{name} is {getattr(self, name)}, expected at least 0")
        for name in (
            "alpha", "learning_rate", "embedding_multiplier", "relative_bias_multiplier",
        ):  # fmt: skip
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise MetroFastError(f"{name} is {value}, expected a finite number above 0")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise MetroFastError(f"weight_decay is {self.weight_decay}, expected at least 0")
        if not 0 <= self.lora_dropout < 1:
            raise MetroFastError(f"lora_dropout is {self.lora_dropout}, expected [0, 1)")
        if not (math.isfinite(self.lora_init_std) and self.lora_init_std >= 0):
            raise MetroFastError(f"lora_init_std is {self.lora_init_std}, expected at least 0")
        if not 0 <= self.seed < 2**32:
            raise MetroFastError(f"seed is {self.seed}, expected 0 <= seed < 2**32 (numpy's limit)")
