"""Splits a corpus into training rows and held-out rows, by arithmetic."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from metro_fast.errors import MetroFastError


class RowSelection(Dataset[Any]):
    """Rows of a corpus: the held-out ones, or all others.

    Held-out rows are the middles of `count` equal stretches of the corpus, so that every source in
    it is met. Blocks of one document may fall on both sides.

    Args:
        dataset: A map-style dataset; its `__getitems__` is used where it has one.
        count: Number of held-out rows.
        held_out: Which of the two parts this is.

    Raises:
        MetroFastError: If fewer than one training row would be left.

    Example:
        >>> [RowSelection("abcdef", 2, held_out=True)[i] for i in range(2)]
        ['b', 'e']
        >>> part = RowSelection("abcdef", 2, held_out=False)
        >>> "".join(part[i] for i in range(len(part)))
        'acdf'
    """

    def __init__(self, dataset: Any, count: int, *, held_out: bool) -> None:
        size = len(dataset)
        if size <= count:
            raise MetroFastError(
                f"the corpus has {size} rows, and {count} are to be held out: none is left to "
                "train on; use a smaller block_size or fewer evaluation_rows"
            )
        self.dataset, self.held_out = dataset, held_out
        self._held = (2 * np.arange(count) + 1) * size // (2 * count)
        self._length = count if held_out else size - count

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Any:
        return self.dataset[self._rows([index])[0]]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """A batch of rows, in one call where the dataset can."""
        rows = self._rows(indices)
        if hasattr(self.dataset, "__getitems__"):
            found: list[Any] = self.dataset.__getitems__(rows)
            return found
        return [self.dataset[row] for row in rows]

    def _rows(self, indices: Sequence[int]) -> list[int]:
        numbers = np.asarray(indices)
        outside = (numbers < 0) | (numbers >= self._length)
        if outside.any():
            raise IndexError(f"row {int(numbers[outside][0])} of {self._length}")
        if self.held_out:
            return [int(row) for row in self._held[numbers]]
        # Before held-out row k lie held[k] - k training rows.
        passed = self._held - np.arange(len(self._held))
        return [int(row) for row in numbers + np.searchsorted(passed, numbers, side="right")]
