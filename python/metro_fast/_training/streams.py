"""Training on a stream (an `IterableDataset`): passes, ranks and resuming.

The stock Trainer counts all passes over a stream as one epoch of `max_steps`, so no callback
announces a new pass, and the second pass repeats the noise of the first. accelerate repeats rows to
fill the last batches of a pass, or, with a stream of Hugging Face, lets one rank run out of rows
before the others, which then wait for it forever.
"""

import itertools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from metro_fast._training.loader_options import check_epochs_reach_workers, worker_options
from metro_fast._training.objective import Batch
from metro_fast._training.training_rows import filler
from metro_fast.errors import MetroFastError


def is_stream(dataset: Any) -> bool:
    """Whether the training data is a stream, which is read in its own order."""
    return isinstance(dataset, IterableDataset)


def check_stream(args: Any) -> None:
    """Refuse training arguments that do not suit a stream.

    Raises:
        MetroFastError: If `max_steps` is missing, or rows would have to be sorted by length.
    """
    if args.max_steps <= 0:
        raise MetroFastError(
            f"max_steps is {args.max_steps}, but train_dataset is a stream (IterableDataset), "
            "whose length is unknown: set max_steps to the number of updates"
        )
    if args.train_sampling_strategy == "group_by_length":
        raise MetroFastError(
            "train_sampling_strategy is 'group_by_length', but train_dataset is a stream, which is "
            "read in its own order: leave it out, and sort the rows where the stream is made"
        )


class RankRows(IterableDataset[Any]):
    """Every `ranks`-th row of a stream, starting at row `rank`; the others are dropped.

    Args:
        dataset: The stream, in the same order on every rank.
        rank: This rank.
        ranks: The number of ranks.

    Example:
        >>> class Count(IterableDataset):
        ...     def __iter__(self):
        ...         return iter(range(5))
        >>> list(RankRows(Count(), rank=1, ranks=2))
        [1, 3]
    """

    def __init__(self, dataset: Any, rank: int, ranks: int) -> None:
        self.dataset, self.rank, self.ranks = dataset, rank, ranks

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(iter(self.dataset), self.rank, None, self.ranks)


def is_split(dataset: Any) -> bool:
    """Whether `split_dataset_by_node` has divided a stream of Hugging Face already."""
    return getattr(dataset, "_distributed", None) is not None


def rows_of_rank(dataset: Any, rank: int, ranks: int) -> Any:
    """Take a rank's part of a stream; no row is in the parts of two ranks.

    A stream of Hugging Face is split by its shards where their number allows it, and left unchanged
    if `split_dataset_by_node` has already split it.
    """
    if ranks == 1:
        return dataset
    datasets = sys.modules.get("datasets")
    if datasets is None or not isinstance(dataset, datasets.IterableDataset):
        return RankRows(dataset, rank, ranks)
    if is_split(dataset):
        return dataset
    from datasets.distributed import split_dataset_by_node

    return split_dataset_by_node(dataset, rank, ranks)


class StreamBatches(IterableDataset[Batch]):
    """The batches of a stream, in endless passes.

    A pass ends for all ranks at once, when none of them has a batch left. A rank that has run out
    before the others repeats its last batch as a filler, in which nothing counts.

    Args:
        loader: Loads this rank's batches of one pass.
        begin: Called with the number of each pass, from 0, before it starts.
        ranks: The number of ranks.
        ranks_with: Returns on how many ranks it is called with True; a collective call.
        drop_last: Whether a pass ends as soon as one rank has no batch left.
    """

    def __init__(
        self,
        loader: DataLoader[Any],
        begin: Callable[[int], None],
        *,
        ranks: int,
        ranks_with: Callable[[bool], int],
        drop_last: bool,
    ) -> None:
        self._loader, self._begin, self._drop_last = loader, begin, drop_last
        self._ranks, self._ranks_with = ranks, ranks_with

    def __iter__(self) -> Iterator[Batch]:
        for number in itertools.count():
            self._begin(number)
            last = None
            batches = iter(self._loader)
            # At the start of a pass every rank needs a batch, of which it can make fillers.
            while self._goes_on(
                (batch := next(batches, None)) is not None, all_of_them=last is None
            ):
                if batch is None:
                    assert last is not None
                    yield filler(last)
                else:
                    yield (last := batch)
            if last is None:
                raise MetroFastError(
                    f"pass {number} over the stream has no batch on at least one rank: use a "
                    "stream that is not empty and has at least as many rows and shards as there "
                    "are ranks"
                )

    def _goes_on(self, has_batch: bool, *, all_of_them: bool) -> bool:
        wanted = self._ranks if all_of_them or self._drop_last else 1
        return self._ranks_with(has_batch) >= wanted


def stream_loader(
    dataset: Any,
    args: Any,
    collator: Callable[[Any], Any],
    *,
    batch_size: int,
    ranks_with: Callable[[bool], int],
) -> DataLoader[Any]:
    """Make the loader from which a trainer takes the batches of a stream.

    Args:
        dataset: The stream.
        args: The training arguments.
        collator: Makes batches. It and the stream get the number of each pass if they have
            `set_epoch`.
        batch_size: Rows per batch.
        ranks_with: Returns on how many ranks it is called with True; a collective call.

    Returns:
        A loader of whole batches, not of rows, so that a resumed run skips those it has trained
        on, in whichever pass they were.
    """
    check_epochs_reach_workers(args, dataset, collator)
    rows = dataset
    if args.split_stream:
        rows = rows_of_rank(dataset, args.process_index, args.world_size)
    loader: DataLoader[Any] = DataLoader(
        rows,
        batch_size=batch_size,
        collate_fn=collator,
        drop_last=args.dataloader_drop_last,
        persistent_workers=args.dataloader_persistent_workers,
        **{**worker_options(args), "pin_memory": False},  # the outer loader pins
    )
    receivers = [part for part in (dataset, rows, collator) if hasattr(part, "set_epoch")]

    def begin(number: int) -> None:
        for part in receivers:
            part.set_epoch(number)

    batches = StreamBatches(
        loader,
        begin,
        ranks=args.world_size,
        ranks_with=ranks_with,
        drop_last=args.dataloader_drop_last,
    )
    return DataLoader(
        batches,
        batch_size=None,
        collate_fn=_unchanged,
        pin_memory=args.dataloader_pin_memory,
        generator=torch.Generator(),
    )


def _unchanged(batch: Any) -> Any:
    return batch
