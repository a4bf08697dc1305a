"""The part of the trainer that saves and loads checkpoints, each whole or refused."""

import shutil
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from torch import nn
from transformers import TrainerState
from transformers.trainer_utils import TrainOutput

from metro_fast._file_errors import os_errors
from metro_fast._pretrained import explained
from metro_fast._training.checkpoints import MARK, Sums, mark_complete, read_mark
from metro_fast._training.evaluation_trainer import EvaluationTrainer
from metro_fast._training.extension import check_length, planned_steps, state_of
from metro_fast._training.objective import Objective
from metro_fast._training.optimizer import check_resumed, steady_settings
from metro_fast._training.pace import Pace
from metro_fast._training.run_loss import RunLoss
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
        self._run_loss = RunLoss()
        self._pace = Pace()

    def check_checkpoint(self, checkpoint: Path) -> None:
        """Refuse a checkpoint of another model; a subclass knows what makes one."""

    def load_sums(self, checkpoint: Path) -> TrainerState:
        """Load this rank's sums, since the last log line and since the start of the run.

        Returns:
            The state of the run.

        Raises:
            MetroFastError: If the checkpoint is not whole, or is that of another model.
            FormatError: If it is damaged.
        """
        sums = read_mark(checkpoint)
        self.check_checkpoint(checkpoint)
        state = state_of(checkpoint)
        place = (self.accelerator.process_index, self.accelerator.num_processes)
        self._pace.carried = self._window.load(sums.windows, *place)
        self._pace.before = self._run_loss.load(sums.runs, state.global_step, *place)
        return state

    def load_finished(self, checkpoint: Path, state: TrainerState) -> TrainOutput | None:
        """Load a checkpoint after which no step is left; the stock trainer would take one more.

        Args:
            checkpoint: The checkpoint.
            state: Its state, as `load_sums` returns it.

        Returns:
            The result of the run, or None if there are steps left.

        Raises:
            MetroFastError: If the checkpoint has more steps than are wanted.
        """
        steps = planned_steps(self.args, self.get_train_dataloader)
        check_length(state.global_step, steps)
        if state.global_step < steps:
            return None
        self.state = state
        best = state.best_model_checkpoint if self.args.load_best_model_at_end else None
        self._load_from_checkpoint(best or str(checkpoint))
        loss = self._run_loss.mean(state.global_step, self.accelerator)
        # A run that died just before its last line gets it now.
        self.log({"total_flos": state.total_flos, "train_loss": loss})
        return TrainOutput(state.global_step, loss, {"train_loss": loss})

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
        own = [(self._window.state(), self._run_loss.state(self._pace.total))]
        windows, runs = zip(
            *(gather_object(own) if self.accelerator.num_processes > 1 else own), strict=True
        )
        folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
        if self.args.should_save and folder.exists():
            # A killed save has left it, or a run resumed from an earlier one writes it again.
            (folder / MARK).unlink(missing_ok=True)
            shutil.rmtree(folder)
        self.accelerator.wait_for_everyone()
        with os_errors(folder):
            super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()  # the mark means that every rank's state is there
        if self.args.should_save:
            sums = Sums(list(windows), list(runs))
            mark_complete(folder, sums, model_only=self.args.save_only_model)
