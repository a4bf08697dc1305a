"""The rows of each rank in an epoch, each row once, on any number of ranks.

The stock loader repeats rows from the start of the epoch until the last batches of all ranks are
full, so that those rows count twice, and runs on 1 and on 2 ranks part. Here the rows of the last
micro-step are shared out. A rank that gets none of them repeats one row as a filler, whose losses
count nothing, since every rank has to take part in every step.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Sized
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers.trainer_utils import seed_worker

from metro_fast._training.loader_options import check_epochs_reach_workers, worker_options
from metro_fast._training.objective import Batch
from metro_fast.errors import MetroFastError

FILLER = "is_filler"
"""The key of a batch that says that nothing in it counts."""


class RankBatches(Sampler[list[int]]):
    """The indices of each micro-step that one rank takes.

    Micro-step m of all ranks covers the places [m * n, (m + 1) * n) of the epoch's order, where n
    is batch_size * ranks, and rank r takes the r-th stretch of `batch_size` of them. The last,
    shorter one is divided evenly; a rank without a share gets [-1 - index], a filler.

    Args:
        order: The order of all rows.
        batch_size: Rows of a rank per micro-step.
        rank: This rank.
        ranks: The number of ranks.
        step_rows: Rows per update, a multiple of batch_size * ranks.
        drop_last: Whether to leave out the last update if it has fewer rows.

    Raises:
        MetroFastError: If nothing is left.

    Example:
        >>> [list(RankBatches(range(7), 2, rank, 2, 4, False)) for rank in range(2)]
        [[[0, 1], [4]], [[2, 3], [5, 6]]]
        >>> [list(RankBatches(range(5), 2, rank, 2, 4, False)) for rank in range(2)]
        [[[0, 1], [-5]], [[2, 3], [4]]]
        >>> list(RankBatches(range(7), 2, 0, 2, 4, True))
        [[0, 1]]
    """

    def __init__(
        self, order: Any, batch_size: int, rank: int, ranks: int, step_rows: int, drop_last: bool
    ) -> None:
        self.order, self.batch_size, self.rank, self.ranks = order, batch_size, rank, ranks
        size = len(order)
        self.rows = size - size % step_rows if drop_last else size
        if self.rows == 0:
            raise MetroFastError(
                f"the training data has {size} rows, fewer than the {step_rows} of an update, and "
                "dataloader_drop_last=True leaves them out: use smaller batches, or False"
            )

    @property
    def has_filler(self) -> bool:
        """Whether this rank has no row of the last micro-step."""
        rest = self.rows % (self.batch_size * self.ranks)
        return rest > 0 and self._share(rest)[0] == self._share(rest)[1]

    def __len__(self) -> int:
        return -(-self.rows // (self.batch_size * self.ranks))

    def __iter__(self) -> Iterator[list[int]]:
        places = itertools.islice(iter(self.order), self.rows)
        while rows := list(itertools.islice(places, self.batch_size * self.ranks)):
            low, high = self._share(len(rows))
            yield rows[low:high] or [-1 - rows[0]]

    def _share(self, rows: int) -> tuple[int, int]:
        return rows * self.rank // self.ranks, rows * (self.rank + 1) // self.ranks


class Filler(list[Any]):
    """The rows of a filler on their way from the dataset to the collator."""


class FillableRows(Dataset[Any]):
    """Rows of a dataset by lists of indices, where [-1 - index] is a filler.

    Args:
        dataset: A map-style dataset; its `__getitems__` is used where it has one.
    """

    def __init__(self, dataset: Sized) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index]  # type: ignore[index]

    def __getitems__(self, indices: list[int]) -> list[Any]:
        """Read a batch of rows."""
        if indices[0] < 0:
            return Filler(self.__getitems__([-1 - index for index in indices]))
        read: Callable[[list[int]], list[Any]] | None
        read = getattr(self.dataset, "__getitems__", None)
        return [self[index] for index in indices] if read is None else read(indices)


class FillerCollator:
    """Marks the batches of fillers.

    Args:
        collator: Makes batches.
    """

    def __init__(self, collator: Callable[[Any], Batch]) -> None:
        self.collator = collator

    def __call__(self, rows: Any) -> Batch:
        """Make a batch."""
        if isinstance(rows, Filler):
            return filler(self.collator(list(rows)))
        return self.collator(rows)


def filler(batch: Batch) -> dict[str, Any]:
    """Mark a batch as one that counts nothing."""
    return {**batch, FILLER: torch.tensor(True)}


def is_filler(batch: Batch) -> bool:
    """Whether nothing in a batch counts.

    Example:
        >>> is_filler({"input_ids": torch.zeros(1, 2)}), is_filler(filler({}))
        (False, True)
    """
    return FILLER in batch


def training_loader(
    dataset: Any, order: Any, args: Any, collator: Callable[[Any], Any], *, batch_size: int
) -> DataLoader[Any]:
    """Make the loader of this rank's training rows.

    Args:
        dataset: Rows with a length.
        order: The order of all rows in an epoch.
        args: The training arguments.
        collator: Makes batches.
        batch_size: Rows per batch.
    """
    check_epochs_reach_workers(args, dataset, collator)
    step_rows = batch_size * args.gradient_accumulation_steps * args.world_size
    batches = RankBatches(
        order,
        batch_size,
        args.process_index,
        args.world_size,
        step_rows,
        args.dataloader_drop_last,
    )
    if batches.has_filler:
        dataset, collator = FillableRows(dataset), FillerCollator(collator)
    seed = functools.partial(
        seed_worker, num_workers=args.dataloader_num_workers, rank=args.process_index
    )
    return DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=collator,
        worker_init_fn=seed,
        persistent_workers=args.dataloader_persistent_workers,
        **worker_options(args),
    )
