"""A Trainer whose losses are sums, divided once by counts over the whole window and all ranks."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn
from transformers import PrinterCallback, ProgressCallback
from transformers.trainer_utils import TrainOutput
from transformers.utils.logging import disable_progress_bar

from metro_fast._parameter_groups import parameter_groups
from metro_fast._ranks import leave_group_at_exit, owned_by_first
from metro_fast._temporary import remove_unfinished_writes
from metro_fast._training.arguments import SummedLossArguments, check_one_process_per_gpu
from metro_fast._training.callbacks import EpochCallback
from metro_fast._training.checkpoint_trainer import CheckpointTrainer
from metro_fast._training.checkpoints import checkpoint_to_resume
from metro_fast._training.extension import ResumedRunCallback
from metro_fast._training.finite import FiniteGuard
from metro_fast._training.flops import Seq2SeqFlops, trained_factor
from metro_fast._training.objective import Batch, Objective, StepResult, normalized, tokens_of
from metro_fast._training.optimizer import check_optimizer, has_our_groups, make_optimizer
from metro_fast._training.predictions import (
    check_arguments_type,
    check_evaluation,
    check_no_ignored_keys,
)
from metro_fast._training.progress import RunProgress
from metro_fast._training.randomness import OwnRandomness
from metro_fast._training.refusals import check_combinations, check_fields, check_launcher
from metro_fast._training.streams import check_stream, is_stream
from metro_fast._training.training_rows import FILLER, is_filler
from metro_fast._training.weight_types import prepare_weights
from metro_fast.errors import MetroFastError

NO_SEARCH = (
    "a trial would need a new model and new losses: make a trainer for each set of arguments, for "
    "instance in a loop over MetroTrainingArguments"
)


class SummedLossTrainer(CheckpointTrainer):
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
        check_arguments_type(args, SummedLossArguments)
        check_fields(args)  # again, since attributes can be set after they were made
        check_combinations(args)
        check_one_process_per_gpu(args)
        check_evaluation(objective, args, options)
        optimizer = (options.get("optimizers") or (None, None))[0]
        if optimizer is not None and options.get("model") is not None:
            check_optimizer(optimizer, options["model"])
        if is_stream(options.get("train_dataset")):
            check_stream(args)
        if options.get("train_dataset") is not None and options.get("model") is not None:
            prepare_weights(options["model"], args)
        if args.world_size > 1:
            leave_group_at_exit()
        disable_progress_bar()  # one for each saved model would fill a log, or break the table
        super().__init__(objective, args=args, **options)
        check_launcher(self)
        self.optimizer: torch.optim.Optimizer | None  # create_optimizer makes one if None
        # The result of compute_loss needs no division by accumulation steps. transformers 5.17 has
        # the first name only, and 5.23 prefers the second.
        self.model_accepts_loss_kwargs = True
        self.loss_is_scaled_for_ga = True
        self._flops: Seq2SeqFlops | None = None
        self._flops_factor: float | None = None
        self._guard = FiniteGuard(args.output_dir, objective.losses)
        self._data_randomness = OwnRandomness("cpu", seed=args.seed)
        self._progress = RunProgress(self._pace, live=not args.disable_tqdm)
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)
        epochs = EpochCallback(self._epoch_receivers)
        for callback in (epochs, ResumedRunCallback(), self._pace, self._progress):
            self.add_callback(callback)

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
        quick = bool(self.args.accelerator_config.non_blocking)
        batches = [send_to_device(batch, device, non_blocking=quick) for batch in batches]
        counts = torch.zeros(len(self.objective.losses), dtype=torch.int64, device=device)
        own = [batch for batch in batches if not is_filler(batch)]
        for batch in own:
            counts += self.objective.count(batch).to(device)
        self._guard.begin(batches)
        if not self._progress.step_tokens:
            tokens = sum((tokens_of(batch).cpu() for batch in own), torch.tensor(0))
            self._progress.step_tokens = int(self._sum_over_ranks(tokens))
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
        nothing = is_filler(inputs)
        inputs = {name: value for name, value in inputs.items() if name != FILLER}
        own = self.objective.count(inputs) * (not nothing)
        counts = self._sum_over_ranks(own) if num_items_in_batch is None else num_items_in_batch
        try:
            result = self.objective.run(model, inputs)
        except MetroFastError as error:
            if num_items_in_batch is None:  # no step of a training
                raise
            step = self.state.global_step + 1
            raise self._guard.refused(error, step, self.accelerator) from error
        if nothing:  # all ranks take part in the step, but this batch has no row of its own
            result = StepResult(result.sums * 0, {})
        else:
            self._window.add(own, result, tokens_of(inputs))
        self._guard.add(result.sums)
        loss = normalized(result.sums, counts, self.objective.weights)
        loss = loss * self.accelerator.num_processes
        if num_items_in_batch is not None:  # a step of a training
            self._run_loss.add(loss, ranks=self.accelerator.num_processes)
        return (loss, result) if return_outputs else loss

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """Check losses and gradient, once a step, before the optimizer uses them."""
        norm = super()._get_grad_norm(model, grad_norm)
        self._guard.check(self.state.global_step + 1, norm, self.accelerator)
        return norm

    def floating_point_ops(self, inputs: Batch) -> float:
        """Count the operations of forward and backward for a batch (`Seq2SeqFlops`).

        transformers counts parameters times the tokens of the encoder, whatever the decoder reads.
        """
        if is_filler(inputs):  # the same number on any number of ranks
            return 0.0
        if self._flops_factor is None:
            self._flops_factor = trained_factor(self.model)
        return self.step_flops(inputs, self._flops_factor)

    def step_flops(self, batch: Batch, factor: float) -> float:
        """Count the operations of forward and backward.

        Args:
            batch: A batch.
            factor: Those of both over those of the forward (`trained_factor`).
        """
        return factor * self.forward_flops(batch)

    def forward_flops(self, batch: Batch) -> int:
        """Count the operations of the forward pass for a batch, padding included."""
        if self._flops is None:
            self._flops = Seq2SeqFlops(self.model)
        rows, source = batch["input_ids"].shape
        target = batch["labels"].shape[1]
        return self._flops.forward(rows, source, target, rows * target)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log; a training line gets the window's figures in place of the stock mean over steps.

        `tokens`, `total_flos` and `train_loss` count from the start of the run.
        """
        if "train_loss" in logs:
            logs["train_loss"] = self._run_loss.mean(self.state.global_step, self.accelerator)
        if self.is_in_train and "loss" in logs:
            logs.update(self._window.figures(self.accelerator))
            self._window.reset()
            flops, ranks = self.state.total_flos, self.accelerator.num_processes
            timed = self._pace.line(logs["tokens"], flops, ranks)
            before = (line["tokens"] for line in reversed(self.state.log_history) if "loss" in line)
            logs.update({"tokens": logs["tokens"] + next(before, 0), "total_flos": flops, **timed})
        super().log(logs, start_time)

    # Optimizer, run

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

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Name the weights that decay: the matrices, unless the optimizer has the stock groups."""
        own = self.optimizer_cls_and_kwargs is not None
        if not has_our_groups(self.args, own_optimizer=own):
            stock: list[str] = super().get_decay_parameter_names(model)
            return stock
        groups = parameter_groups(model, learning_rate=self.args.learning_rate)
        matrices = {
            id(p) for group in groups if group["name"] == "matrices" for p in group["params"]
        }
        return [name for name, weight in model.named_parameters() if id(weight) in matrices]

    def train(
        self, resume_from_checkpoint: str | Path | bool | None = None, **options: Any
    ) -> TrainOutput:
        """Train; `resume_from_checkpoint=True` takes the newest checkpoint that is whole.

        Without it, the field of the training arguments with that name counts.

        Raises:
            MetroFastError: If another run writes to `output_dir`, there is no whole checkpoint to
                resume from, it has more steps than wanted or no state of the optimizer, a trial of
                a search is given, or the loss or gradient of a step is not finite, whose batch is
                then saved.
            OSError: If a checkpoint cannot be written; the error names the file and the cause.
        """
        check_no_ignored_keys(options.get("ignore_keys_for_eval"))
        if options.get("trial") is not None:
            raise MetroFastError(f"trial is given, but {NO_SEARCH}")
        self._window.reset()
        prepare_weights(self.model, self.args)
        self._flops_factor = None  # weights may have been frozen since the last call
        wanted = resume_from_checkpoint
        if wanted is None:
            wanted = self.args.resume_from_checkpoint
        if self.args.save_strategy == "no" and not wanted:
            return self._train(wanted, options)
        with owned_by_first(self.args.output_dir):
            if self.args.should_save:
                remove_unfinished_writes(Path(self.args.output_dir), "checkpoint-*")
            return self._train(wanted, options)

    def _train(self, wanted: str | Path | bool | None, options: dict[str, Any]) -> TrainOutput:
        checkpoint = checkpoint_to_resume(wanted, self.args)
        self._pace.carried, self._pace.before = 0, 0.0
        self._run_loss.reset()
        if checkpoint is not None:
            done = self.load_finished(checkpoint, self.load_sums(checkpoint))
            if done is not None:
                return done
        resume = None if checkpoint is None else str(checkpoint)
        try:
            found = super().train(resume_from_checkpoint=resume or False, **options)
        finally:
            self._progress.close()
        return found._replace(training_loss=found.metrics["train_loss"])

    def hyperparameter_search(self, *args: Any, **options: Any) -> Any:
        """Refuse a search of transformers.

        Raises:
            MetroFastError: Always.
        """
        raise MetroFastError(f"hyperparameter_search was called, but {NO_SEARCH}")
