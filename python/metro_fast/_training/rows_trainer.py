"""The part of the trainer that decides which rows a rank reads, and in which order."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from metro_fast._training.evaluation_rows import at_epoch_zero, evaluation_loader
from metro_fast._training.samplers import training_sampler
from metro_fast._training.steady_trainer import SteadyTrainer
from metro_fast._training.streams import is_stream, stream_loader
from metro_fast._training.training_rows import is_filler, training_loader
from metro_fast.errors import MetroFastError


class RowsTrainer(SteadyTrainer):
    """A Trainer whose order of rows is a function of (seed, epoch), also from a stream.

    Every row is on exactly one rank, once an epoch and once an evaluation. Evaluations have the
    noise of epoch 0, whatever the epoch of the training.
    """

    _sampler: Sampler[int] | None = None

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        """Make the loader of the evaluation's rows, each on exactly one rank.

        Raises:
            MetroFastError: If there is no evaluation data, or it cannot be copied.
            TypeError: If it neither has a length nor is a stream.
        """
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(dataset, str):
            dataset = self.eval_dataset[dataset]
        rows, collator = at_epoch_zero(dataset), at_epoch_zero(self.data_collator)
        return evaluation_loader(rows, self.args, collator)

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader[Any]:
        """Make the loader of the rows of `predict`, like `get_eval_dataloader`."""
        return self.get_eval_dataloader(test_dataset)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Make the loader of the training rows; see `RankBatches`, and `StreamBatches`.

        Raises:
            MetroFastError: If there are no rows, or too few.
        """
        if self.train_dataset is None:
            raise MetroFastError("there is no training data: pass train_dataset")
        if not is_stream(self.train_dataset):
            return training_loader(
                self.train_dataset,
                self._get_train_sampler(),
                self.args,
                self.data_collator,
                batch_size=self._train_batch_size,
            )
        return stream_loader(
            self.train_dataset,
            self.args,
            self.data_collator,
            batch_size=self._train_batch_size,
            ranks_with=self._ranks_with,
        )

    def _sum_over_ranks(self, counts: Tensor) -> Tensor:
        if self.accelerator.num_processes == 1:
            return counts
        total: Tensor = self.accelerator.reduce(counts.to(self.args.device), reduction="sum")
        return total

    def _ranks_with(self, yes: bool) -> int:
        """The number of ranks that call this with True; a collective call."""
        return int(self._sum_over_ranks(torch.tensor(int(yes))))

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        self._sampler = training_sampler(dataset, self.args)
        return self._sampler

    def _track_num_input_tokens(self, inputs: Any) -> None:
        if is_filler(inputs):  # the stock method is a collective call
            kept = inputs.keys() & {"input_ids", "attention_mask"}
            inputs = {name: inputs[name][:0] for name in kept}
        super()._track_num_input_tokens(inputs)

    def _epoch_receivers(self) -> list[Any]:
        if is_stream(self.train_dataset):
            return []  # `StreamBatches` announces passes; the stock loop counts one epoch
        found, data = [self._sampler, self.data_collator], self.train_dataset
        while data is not None:  # a Subset holds its corpus as `dataset`
            found.append(data)
            data = getattr(data, "dataset", None)
        return [part for part in found if hasattr(part, "set_epoch")]
