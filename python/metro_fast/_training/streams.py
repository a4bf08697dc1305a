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

from torch.utils.data import DataLoader, IterableDataset

from metro_fast._training.objective import Batch
from metro_fast.errors import MetroFastError


def is_stream(dataset: Any) -> bool:
    """Whether the training data is a stream, which is read in its own order."""
    return isinstance(dataset, IterableDataset)


def check_stream(args: Any) -> None:
    """Refuse training arguments that do not suit a stream.

    Raises:
        MetroFastError: If rank 0 would read for all ranks, or `max_steps` is missing.
    """
    if args.max_steps <= 0:
        raise MetroFastError(
            f"max_steps is {args.max_steps}, but train_dataset is a stream (IterableDataset), "
            "whose length is unknown: set max_steps to the number of updates"
        )
    for name in ("dispatch_batches", "split_batches"):
        if getattr(args.accelerator_config, name):
            raise MetroFastError(
                f"accelerator_config has {name}=True, with which rank 0 collates for all ranks and "
                "the batches are then cut, with wrong counts and positions: leave it out, so that "
                "each rank reads its own rows of the stream"
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
    if getattr(dataset, "_distributed", None) is not None:
        return dataset
    from datasets.distributed import split_dataset_by_node

    return split_dataset_by_node(dataset, rank, ranks)


class StreamBatches(IterableDataset[Batch]):
    """The batches of a stream, in endless passes.

    A pass ends for all ranks at once: as soon as one of them has no batch left, the batches that
    the others still have in this pass are left out.

    Args:
        loader: Loads this rank's batches of one pass.
        begin: Called with the number of each pass, from 0, before it starts.
        agree: Returns whether it is called with True on all ranks; a collective call.
    """

    def __init__(
        self,
        loader: DataLoader[Any],
        begin: Callable[[int], None],
        agree: Callable[[bool], bool],
    ) -> None:
        self._loader, self._begin, self._agree = loader, begin, agree

    def __iter__(self) -> Iterator[Batch]:
        for number in itertools.count():
            self._begin(number)
            empty = True
            batches = iter(self._loader)
            while self._agree((batch := next(batches, None)) is not None):
                empty = False
                assert batch is not None
                yield batch
            if empty:
                raise MetroFastError(
                    f"pass {number} over the stream has no batch on at least one rank: use a "
                    "stream that is not empty and has at least as many rows and shards as there "
                    "are ranks"
                )


def stream_loader(
    dataset: Any,
    args: Any,
    collator: Callable[[Any], Any],
    *,
    batch_size: int,
    agree: Callable[[bool], bool],
) -> DataLoader[Any]:
    """Make the loader from which a trainer takes the batches of a stream.

    Args:
        dataset: The stream.
        args: The training arguments.
        collator: Makes batches. It and the stream get the number of each pass if they have
            `set_epoch`.
        batch_size: Rows per batch.
        agree: Returns whether it is called with True on all ranks; a collective call.

    Returns:
        A loader of whole batches, not of rows, so that a resumed run skips those it has trained
        on, in whichever pass they were.
    """
    rows = dataset
    if args.split_stream:
        rows = rows_of_rank(dataset, args.process_index, args.world_size)
    loader: DataLoader[Any] = DataLoader(
        rows,
        batch_size=batch_size,
        collate_fn=collator,
        num_workers=args.dataloader_num_workers,
        drop_last=args.dataloader_drop_last,
        persistent_workers=args.dataloader_persistent_workers,
        prefetch_factor=args.dataloader_prefetch_factor,
        # older releases of transformers do not have it
        multiprocessing_context=getattr(args, "dataloader_multiprocessing_context", None),
    )
    receivers = [part for part in (dataset, rows, collator) if hasattr(part, "set_epoch")]

    def begin(number: int) -> None:
        for part in receivers:
            part.set_epoch(number)

    return DataLoader(
        StreamBatches(loader, begin, agree),
        batch_size=None,
        collate_fn=_unchanged,
        pin_memory=args.dataloader_pin_memory,
    )


def _unchanged(batch: Any) -> Any:
    return batch
