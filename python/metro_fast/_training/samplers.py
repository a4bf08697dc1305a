"""The order of the training rows, a function of (seed, epoch), which a resumed run repeats.

The stock samplers draw from the global generator, but a checkpoint in the middle of an epoch does
not hold the state that the generator had at the epoch's start.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Sampler, SequentialSampler

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError


def _generator(seed: int, epoch: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed & (2**64 - 1), epoch]))


class EpochSampler(Sampler[int]):
    """Every row once per epoch, in an order that depends on (seed, epoch) alone.

    Args:
        size: Number of rows, at least 1.
        seed: 0 <= seed < 2^63.

    Example:
        >>> sampler = EpochSampler(4, seed=0)
        >>> first = list(sampler)
        >>> sampler.set_epoch(1)
        >>> sorted(sampler) == sorted(first), list(sampler) == first
        (True, False)
    """

    def __init__(self, size: int, seed: int) -> None:
        if size < 1:
            raise MetroFastError(f"the training data has {size} rows, expected at least 1")
        self.size, self.seed, self.epoch = size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        order = _generator(self.seed, self.epoch).permutation(self.size)
        yield from (int(index) for index in order)


class LengthBucketSampler(EpochSampler):
    """Batches of similar lengths, which need little padding.

    Rows are shuffled, cut into pools of 50 batches, sorted by length inside a pool and cut into
    batches; the batches are shuffled. The last, smaller batch stays last, so that cutting the
    order into batches of `batch_size` gives the same batches.

    Args:
        lengths: Length of each row.
        batch_size: Rows per optimizer step (batch x accumulation x ranks).
        seed: 0 <= seed < 2^63.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        super().__init__(len(lengths), seed)
        self.lengths = np.asarray(lengths)
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[int]:
        generator = _generator(self.seed, self.epoch)
        order = generator.permutation(self.size)
        whole = self.size - self.size % self.batch_size
        tail, order = order[whole:], order[:whole]
        pool = 50 * self.batch_size
        batches: list[np.ndarray] = []
        for start in range(0, whole, pool):
            rows = order[start : start + pool]
            rows = rows[np.argsort(self.lengths[rows], kind="stable")]
            batches.extend(rows.reshape(-1, self.batch_size))
        for number in generator.permutation(len(batches)):
            yield from (int(index) for index in batches[number])
        yield from (int(index) for index in tail)


def training_sampler(dataset: Any, args: Any) -> Sampler[int]:
    """Make the sampler of the training rows.

    Args:
        dataset: The training data; "group_by_length" needs its lengths.
        args: The training arguments.

    Raises:
        MetroFastError: If lengths are needed and missing, or there are no rows.
        TypeError: If the data has no length.
    """
    if not hasattr(dataset, "__len__"):
        raise TypeError(
            f"{type(dataset).__name__} has no length: give it __len__, or make it a stream "
            "(torch.utils.data.IterableDataset) and set max_steps"
        )
    seed = args.seed if args.data_seed is None else args.data_seed
    if args.train_sampling_strategy == "sequential":
        if not len(dataset):
            raise MetroFastError("the training data has 0 rows, expected at least 1")
        return SequentialSampler(dataset)
    if args.train_sampling_strategy == "random":
        return EpochSampler(len(dataset), seed)
    rows = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    return LengthBucketSampler(_lengths(dataset, args.length_column_name), rows, seed)


def _lengths(dataset: Any, column: str) -> Any:
    if hasattr(dataset, "lengths"):
        return dataset.lengths
    if column in getattr(dataset, "column_names", ()):
        return dataset[column]
    raise MetroFastError(
        f"train_sampling_strategy is 'group_by_length', but {type(dataset).__name__} has neither "
        f"`lengths`, the number of tokens of each row, nor a column {quoted(column)} "
        '(length_column_name): add one of them, or use train_sampling_strategy="random"'
    )
