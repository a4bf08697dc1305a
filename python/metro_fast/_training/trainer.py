"""A Trainer whose losses are sums, divided once by counts over the whole window and all ranks."""

import itertools
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler
from transformers import PrinterCallback, Trainer
from transformers.trainer_utils import EvalLoopOutput, TrainOutput

from metro_fast._pretrained import explained
from metro_fast._training.arguments import SummedLossArguments, check_one_process_per_gpu
from metro_fast._training.callbacks import EpochCallback
from metro_fast._training.checkpoints import (
    MARK,
    checkpoint_to_resume,
    mark_complete,
    read_mark,
)
from metro_fast._training.evaluation_rows import evaluation_loader
from metro_fast._training.extension import ResumedRunCallback, finished_state, planned_steps
from metro_fast._training.objective import Batch, Objective, StepResult, normalized
from metro_fast._training.optimizer import has_our_groups, make_optimizer
from metro_fast._training.randomness import DataRandomness
from metro_fast._training.ranks import leave_group_at_exit
from metro_fast._training.samplers import EpochSampler, training_sampler
from metro_fast._training.streams import check_stream, is_stream, stream_loader
from metro_fast._training.window import MetricWindow
from metro_fast.errors import MetroFastError

logger = logging.getLogger(__name__)


class SummedLossTrainer(Trainer):  # type: ignore[misc]  # transformers is untyped
    """transformers' Trainer with an exact normalization of several summed losses.

    A step has the update of one large batch, however it is cut into accumulation steps and ranks:
    `get_batch_samples` counts every loss's tokens over the window and all ranks, and `compute_loss`
    returns ranks x sum over losses of weight x sum / count, since DDP averages over ranks. Neither
    calls the stock method, whose single count of `labels != -100` (and a T5 that ignores it) would
    be a second, wrong normalization.

    Log lines and evaluations are exact token-weighted means over all ranks. The sums since the last
    log line are part of a checkpoint, and so is the order of the rows.

    Args:
        objective: The losses, their counts and figures.
        args: The training arguments.
        **options: Other arguments of `transformers.Trainer`.

    Raises:
        MetroFastError: If one process would drive several GPUs (DataParallel).
    """

    def __init__(self, objective: Objective, args: SummedLossArguments, **options: Any) -> None:
        if not isinstance(args, SummedLossArguments):
            raise TypeError(f"args is {type(args).__name__}, expected SummedLossArguments")
        check_one_process_per_gpu(args)
        if is_stream(options.get("train_dataset")):
            check_stream(args)
        if args.world_size > 1:
            leave_group_at_exit()
        super().__init__(args=args, **options)
        self.optimizer: torch.optim.Optimizer | None  # create_optimizer makes one if None
        self.objective = objective
        # The result of compute_loss needs no division by accumulation steps. transformers 5.17 has
        # the first name only, and 5.23 prefers the second.
        self.model_accepts_loss_kwargs = True
        self.loss_is_scaled_for_ga = True
        self._window = MetricWindow(objective)
        self._evaluation = MetricWindow(objective)
        self._sampler: EpochSampler | None = None
        self._data_randomness = DataRandomness(args.seed)
        self.remove_callback(PrinterCallback)
        self.add_callback(EpochCallback(self._epoch_receivers))
        self.add_callback(ResumedRunCallback)

    # The loss

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], Tensor]:
        """Take the batches of one step and count each loss's tokens over them and all ranks.

        Args:
            epoch_iterator: This rank's batches.
            num_batches: Accumulation steps of this window.
            device: The device on which the counts are reduced.

        Returns:
            The batches (fewer at the end of the data) and int64 [losses] counts.
        """
        with self._data_randomness.in_force():
            batches = list(itertools.islice(epoch_iterator, num_batches))
        counts = torch.zeros(len(self.objective.losses), dtype=torch.int64, device=device)
        for batch in batches:
            counts += self.objective.count(batch).to(device)
        return batches, self._sum_over_ranks(counts)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, StepResult]:
        """Compute ranks x sum over losses of weight x sum / count, with the window's counts.

        Args:
            model: The model, wrapped as for training.
            inputs: One batch.
            return_outputs: Whether to return the step's result as well.
            num_items_in_batch: The counts of `get_batch_samples`; None counts this batch alone.

        Returns:
            The scalar loss, or (loss, `StepResult`).
        """
        own = self.objective.count(inputs)
        counts = self._sum_over_ranks(own) if num_items_in_batch is None else num_items_in_batch
        result = self.objective.run(model, inputs)
        self._window.add(own, result)
        loss = normalized(result.sums, counts, self.objective.weights)
        loss = loss * self.accelerator.num_processes
        return (loss, result) if return_outputs else loss

    def _sum_over_ranks(self, counts: Tensor) -> Tensor:
        if self.accelerator.num_processes == 1:
            return counts
        total: Tensor = self.accelerator.reduce(counts.to(self.args.device), reduction="sum")
        return total

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log; a training line gets the window's figures in place of the stock mean over steps.

        Raises:
            MetroFastError: If the training loss is no longer finite.
        """
        if self.is_in_train and "loss" in logs:
            logs.update(self._finite_figures())
            self._window.reset()
        super().log(logs, start_time)
        if self.is_world_process_zero():
            logger.info("%s", self.state.log_history[-1])

    def _finite_figures(self) -> dict[str, float]:
        """Compute the window's figures; a collective call."""
        figures = self._window.figures(self.accelerator)
        if not math.isfinite(figures["loss"]):
            step = self.state.global_step
            raise MetroFastError(
                f"the loss is {figures['loss']} at step {step}: lower the learning rate or "
                "max_grad_norm, or check the input for damage; the last checkpoint is unchanged"
            )
        return figures

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Run the stock loop, with exact sums over all batches and ranks."""
        self._evaluation.reset()
        output = super().evaluation_loop(
            dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
        )
        figures = self._evaluation.figures(self.accelerator)
        output.metrics.update({f"{metric_key_prefix}_{k}": v for k, v in figures.items()})
        return output

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[None, None, None]:
        """Add one batch to the evaluation's sums; nothing is gathered from it."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            result = self.objective.run(model, inputs)
            self._evaluation.add(self.objective.count(inputs), result)
        return None, None, None

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        """Make the loader of the evaluation's rows, each on exactly one rank.

        Raises:
            MetroFastError: If there is no evaluation data.
            TypeError: If it has no length.
        """
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(dataset, str):
            dataset = self.eval_dataset[dataset]
        return evaluation_loader(dataset, self.args, self.data_collator)

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader[Any]:
        """Make the loader of the rows of `predict`, like `get_eval_dataloader`."""
        return self.get_eval_dataloader(test_dataset)

    # Order, optimizer, checkpoints

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Make the loader of the training rows; see `StreamBatches` for a stream."""
        if not is_stream(self.train_dataset):
            stock: DataLoader[Any] = super().get_train_dataloader()
            return stock
        return stream_loader(
            self.train_dataset,
            self.args,
            self.data_collator,
            batch_size=self._train_batch_size,
            agree=self._all_ranks,
        )

    def _all_ranks(self, yes: bool) -> bool:
        """Whether this is called with True on all ranks; a collective call."""
        answers = self._sum_over_ranks(torch.tensor(int(yes)))
        return int(answers) == int(self.accelerator.num_processes)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        self._sampler = training_sampler(dataset, self.args)
        return self._sampler or super()._get_train_sampler(train_dataset)

    def _epoch_receivers(self) -> list[Any]:
        if is_stream(self.train_dataset):
            return []  # `StreamBatches` announces passes; the stock loop counts one epoch
        found, data = [self._sampler, self.data_collator], self.train_dataset
        while data is not None:  # a Subset holds its corpus as `dataset`
            found.append(data)
            data = getattr(data, "dataset", None)
        return [part for part in found if hasattr(part, "set_epoch")]

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Make AdamW or Adafactor with the groups of `metro_fast._parameter_groups`.

        Raises:
            MetroFastError: If multipliers or `rms_scaled` are set with another optimizer.
        """
        if self.optimizer is not None:
            return self.optimizer
        own = self.optimizer_cls_and_kwargs is not None
        if not has_our_groups(self.args, own_optimizer=own):
            stock: torch.optim.Optimizer = super().create_optimizer(model)
            return stock
        model = self.model if model is None else model
        stock_class, options = self.get_optimizer_cls_and_kwargs(self.args, model)
        self.optimizer = make_optimizer(self.args, model, stock_class, options)
        return self.optimizer

    def train(
        self, resume_from_checkpoint: str | Path | bool | None = None, **options: Any
    ) -> TrainOutput:
        """Train; `resume_from_checkpoint=True` takes the newest checkpoint that is whole.

        Raises:
            MetroFastError: If there is no whole checkpoint to resume from, it has more steps than
                wanted, or the loss is no longer finite at a log line, a checkpoint or the end.
        """
        self._window.reset()
        checkpoint = checkpoint_to_resume(resume_from_checkpoint, self.args)
        if checkpoint is not None:
            window = read_mark(checkpoint)
            self.check_checkpoint(checkpoint)
            if self.is_world_process_zero():
                self._window.load(window)
            planned = planned_steps(self.args, self.get_train_dataloader)
            state = finished_state(checkpoint, planned)
            if state is not None:  # the stock trainer would take one more step
                self.state = state
                best = state.best_model_checkpoint if self.args.load_best_model_at_end else None
                self._load_from_checkpoint(best or str(checkpoint))
                return TrainOutput(state.global_step, 0.0, {})
        resume = None if checkpoint is None else str(checkpoint)
        output = super().train(resume_from_checkpoint=resume, **options)
        self._finite_figures()  # checks the steps after the last log line
        return output

    def check_checkpoint(self, checkpoint: Path) -> None:
        """Refuse a checkpoint of another model; a subclass knows what makes one."""

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        with explained(f"the weights of {resume_from_checkpoint}"):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self._finite_figures()  # before a rotation deletes the last good checkpoint
        self._window.gather(self.accelerator)
        folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
        if self.args.should_save:  # a run resumed from an earlier one writes this again
            (folder / MARK).unlink(missing_ok=True)
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()  # the mark means that every rank's state is there
        if self.args.should_save:
            mark_complete(folder, self._window.state())
