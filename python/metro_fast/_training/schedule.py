"""The settings that every training run has: how long, how fast, and how often it reports."""

from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from metro_fast._ranges import check_above_zero, check_at_least, check_not_negative, check_seed
from metro_fast._training.arguments import SummedLossArguments

Arguments = TypeVar("Arguments", bound=SummedLossArguments)


@dataclass(frozen=True, kw_only=True, repr=False)
class Schedule:
    """Steps, batches, rates and intervals of a run; `metro` and `tuning` add their own settings.

    Attributes:
        steps: Optimizer steps.
        batch_size: Rows per forward pass and rank.
        accumulation_steps: Forward passes per optimizer step.
        learning_rate: Peak rate; it rises linearly, then falls linearly to 0.
        warmup_steps: Steps of the rise.
        weight_decay: AdamW's decay of matrices.
        embedding_multiplier: Rate of the token embeddings over learning_rate.
        relative_bias_multiplier: Rate of the relative attention biases over learning_rate.
        max_grad_norm: Gradients are clipped to this norm; 0 for no clipping.
        bf16: Whether to compute in bfloat16 (autocast).
        seed: Seed of every random choice: weights, order, masks, draws, dropout.
        logging_steps: Steps between log lines.
        save_steps: Steps between checkpoints; 0 saves one at the end only.
        evaluation_steps: Steps between evaluations; 0 evaluates at the end only.
    """

    steps: int = 1000
    batch_size: int = 32
    accumulation_steps: int = 1
    learning_rate: float = 1e-3
    warmup_steps: int = 50
    weight_decay: float = 0.0
    embedding_multiplier: float = 1.0
    relative_bias_multiplier: float = 1.0
    max_grad_norm: float = 1.0
    bf16: bool = False
    seed: int = 0
    logging_steps: int = 50
    save_steps: int = 0
    evaluation_steps: int = 0

    def __post_init__(self) -> None:
        check_at_least(
            1,
            steps=self.steps,
            batch_size=self.batch_size,
            accumulation_steps=self.accumulation_steps,
            logging_steps=self.logging_steps,
        )
        check_at_least(
            0,
            warmup_steps=self.warmup_steps,
            save_steps=self.save_steps,
            evaluation_steps=self.evaluation_steps,
            max_grad_norm=self.max_grad_norm,
        )
        check_above_zero(
            learning_rate=self.learning_rate,
            embedding_multiplier=self.embedding_multiplier,
            relative_bias_multiplier=self.relative_bias_multiplier,
        )
        check_not_negative(weight_decay=self.weight_decay)
        check_seed(32, seed=self.seed)  # numpy's global generator takes no more

    def __repr__(self) -> str:
        """Only the settings that differ from their defaults."""
        changed = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)
            if getattr(self, field.name) != _default(field)
        ]
        return f"{type(self).__name__}({', '.join(changed)})"

    def arguments(
        self, kind: type[Arguments], checkpoints: Path, *, evaluate: bool, **more: Any
    ) -> Arguments:
        """Put these settings into training arguments.

        Args:
            kind: Class of the arguments.
            checkpoints: The trainer's output folder.
            evaluate: Whether there are rows to evaluate on.
            **more: Other arguments; they may also replace those made here.

        Returns:
            The arguments.
        """
        own = {
            "output_dir": str(checkpoints),
            "max_steps": self.steps,
            "per_device_train_batch_size": self.batch_size,
            "per_device_eval_batch_size": self.batch_size,
            "gradient_accumulation_steps": self.accumulation_steps,
            "learning_rate": self.learning_rate,
            "warmup_steps": self.warmup_steps,
            "weight_decay": self.weight_decay,
            "embedding_multiplier": self.embedding_multiplier,
            "relative_bias_multiplier": self.relative_bias_multiplier,
            "max_grad_norm": self.max_grad_norm,
            "bf16": self.bf16,
            "seed": self.seed,
            "logging_steps": self.logging_steps,
            "save_strategy": "steps",  # also without save_steps, so that Ctrl-C can save
            "save_steps": self.save_steps or self.steps,
            "save_total_limit": 2,
            "eval_strategy": "steps" if evaluate and self.evaluation_steps else "no",
            "eval_steps": self.evaluation_steps or None,
        }
        return kind(**{**own, **more})


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()
