"""The part of the trainer that saves and loads checkpoints, each whole or refused."""

from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from torch import nn
from transformers.trainer_utils import TrainOutput

from metro_fast._pretrained import explained
from metro_fast._training.checkpoints import MARK, mark_complete, read_mark
from metro_fast._training.evaluation_trainer import EvaluationTrainer
from metro_fast._training.extension import finished_state, planned_steps
from metro_fast._training.objective import Objective
from metro_fast._training.optimizer import check_resumed, steady_settings
from metro_fast._training.tied_weights import check_adapters, check_loaded
from metro_fast._training.window import MetricWindow


class CheckpointTrainer(EvaluationTrainer):
    """A Trainer whose checkpoints hold the sums since the last log line, and are marked as whole.

    Args:
        objective: The losses, their counts and figures.
        **options: Arguments of `transformers.Trainer`.
    """

    def __init__(self, objective: Objective, **options: Any) -> None:
        super().__init__(objective, **options)
        self._window = MetricWindow(objective)

    def check_checkpoint(self, checkpoint: Path) -> None:
        """Refuse a checkpoint of another model; a subclass knows what makes one."""

    def load_window(self, checkpoint: Path) -> int:
        """Load this rank's sums since the last log line, and return the tokens of all ranks.

        Raises:
            MetroFastError: If the checkpoint is not whole, or is that of another model.
            FormatError: If it is damaged.
        """
        windows = read_mark(checkpoint)
        self.check_checkpoint(checkpoint)
        return self._window.load(
            windows, self.accelerator.process_index, self.accelerator.num_processes
        )

    def load_finished(self, checkpoint: Path) -> TrainOutput | None:
        """Load a checkpoint after which no step is left; the stock trainer would take one more.

        Returns:
            The result of the run, or None if there are steps left.

        Raises:
            MetroFastError: If the checkpoint has more steps than are wanted.
        """
        state = finished_state(checkpoint, planned_steps(self.args, self.get_train_dataloader))
        if state is None:
            return None
        self.state = state
        best = state.best_model_checkpoint if self.args.load_best_model_at_end else None
        self._load_from_checkpoint(best or str(checkpoint))
        return TrainOutput(state.global_step, 0.0, {})

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        with explained(f"the weights of {resume_from_checkpoint}"):
            check_adapters(self.model if model is None else model, Path(resume_from_checkpoint))
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        wanted = None if self.optimizer is None else steady_settings(self.optimizer)
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and wanted is not None:
            check_resumed(wanted, self.optimizer, checkpoint)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        check_loaded(self.model, load_result)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        # Each rank's own sums: adding them up here would change the last digits of the next line.
        several = self.accelerator.num_processes > 1
        windows = gather_object([self._window.state()]) if several else [self._window.state()]
        folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
        if self.args.should_save:  # a run resumed from an earlier one writes this again
            (folder / MARK).unlink(missing_ok=True)
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()  # the mark means that every rank's state is there
        if self.args.should_save:
            mark_complete(folder, windows, model_only=self.args.save_only_model)
