"""The part of the trainer that decides which rows a rank reads, and in which order."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from transformers import Trainer

from metro_fast._training.evaluation_rows import evaluation_loader
from metro_fast._training.samplers import EpochSampler, training_sampler
from metro_fast._training.streams import is_stream, stream_loader


class RowsTrainer(Trainer):  # type: ignore[misc]  # transformers is untyped
    """A Trainer whose order of rows is a function of (seed, epoch), also from a stream.

    Every row of an evaluation is on exactly one rank.
    """

    _sampler: EpochSampler | None = None

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

    def _sum_over_ranks(self, counts: Tensor) -> Tensor:
        if self.accelerator.num_processes == 1:
            return counts
        total: Tensor = self.accelerator.reduce(counts.to(self.args.device), reduction="sum")
        return total

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
