"""A resumed run reports and saves at the intervals that it is given."""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class IntervalsCallback(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Takes the intervals of logs, evaluations and checkpoints from the arguments.

    A stock Trainer that resumes takes them from the checkpoint, and passes over the arguments.
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Put the intervals of the arguments into the state that the checkpoint gave."""
        state.compute_steps(args, state.max_steps)
