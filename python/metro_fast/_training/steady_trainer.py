"""The part of the trainer whose steps draw the same numbers whatever happens between them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer
from transformers.trainer_utils import PredictionOutput, TrainOutput

from metro_fast._training.randomness import OwnRandomness


class SteadyTrainer(Trainer):  # type: ignore[misc]  # transformers is untyped
    """A Trainer whose training draws from generators that nothing else uses.

    An evaluation, a prediction, a text that a callback generates, a log line and a saved checkpoint
    leave the dropout of the steps that follow as it would have been. An evaluation begins with the
    same seed each time, so it gives the same figures for the same weights.
    """

    _steps: OwnRandomness | None = None

    def train(
        self, resume_from_checkpoint: str | Path | bool | None = None, **options: Any
    ) -> TrainOutput:
        """Train with the states that the generators have now, or with those of a checkpoint."""
        self._steps = OwnRandomness(self.args.device)
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **options)

    def training_step(
        self, model: nn.Module, inputs: Any, num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Compute the gradient of one batch, with the random numbers of the training."""
        with self._own_numbers():
            loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        return loss

    def evaluate(self, *args: Any, **options: Any) -> dict[str, float]:
        """Evaluate; see `transformers.Trainer.evaluate`. Every generator is left as it was."""
        with self._undisturbed():
            figures: dict[str, float] = super().evaluate(*args, **options)
        return figures

    def predict(self, *args: Any, **options: Any) -> PredictionOutput:
        """Predict; see `transformers.Trainer.predict`. Every generator is left as it was."""
        with self._undisturbed():
            return super().predict(*args, **options)

    def _save_rng_state(self, output_dir: str) -> None:
        with self._own_numbers():
            super()._save_rng_state(output_dir)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with self._own_numbers():
            super()._load_rng_state(checkpoint)

    @contextlib.contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Use the numbers of an evaluation, and restore what an optimizer does to the weights."""
        # accelerate wraps it
        stepping: Any = getattr(self.optimizer, "optimizer", self.optimizer)
        # A schedule-free optimizer evaluates other weights, and its way back rounds.
        swaps = self.is_in_train and callable(getattr(stepping, "eval", None))
        trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        kept = [weight.detach().clone() for weight in trained] if swaps else []
        with OwnRandomness(self.args.device, seed=self.args.seed).in_force():
            yield
        if swaps:
            stepping.train()
            with torch.no_grad():
                for weight, before in zip(trained, kept, strict=True):
                    weight.copy_(before)

    def _own_numbers(self) -> Any:
        if self._steps is None:  # a single step, called by hand
            self._steps = OwnRandomness(self.args.device)
        return self._steps.in_force()
