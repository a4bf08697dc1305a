"""Split a corpus into training rows and held-out rows, by arithmetic."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from metro_fast.errors import MetroFastError


class RowSelection(Dataset[Any]):
    """The held-out rows of a corpus, or all other rows.

    The held-out rows are the middles of `count` equal stretches of the corpus, so that they come
    from every source in it. Blocks of one document may be in both parts.

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
                f"the corpus has {size} rows, and {count} are to be held out, which leaves none to "
                "train on: use a smaller block_size or fewer evaluation_rows"
            )
        self.dataset, self.held_out = dataset, held_out
        self._held = (2 * np.arange(count) + 1) * size // (2 * count)
        self._length = count if held_out else size - count

    def __repr__(self) -> str:
        kind = "held out" if self.held_out else "training"
        return f"RowSelection({len(self)} of {len(self.dataset)} rows, {kind})"

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Any:
        return self.dataset[self._rows([index])[0]]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Read a batch of rows, in one call if the dataset supports it."""
        rows = self._rows(indices)
        if hasattr(self.dataset, "__getitems__"):
            found: list[Any] = self.dataset.__getitems__(rows)
            return found
        return [self.dataset[row] for row in rows]

    def _rows(self, indices: Sequence[int]) -> list[int]:
        numbers = np.asarray(indices)
        outside = (numbers < 0) | (numbers >= self._length)
        if outside.any():
            raise IndexError(
                f"row {int(numbers[outside][0])} of {self._length}: use 0 to {self._length - 1}"
            )
        if self.held_out:
            return [int(row) for row in self._held[numbers]]
        # There are held[k] - k training rows before held-out row k.
        passed = self._held - np.arange(len(self._held))
        return [int(row) for row in numbers + np.searchsorted(passed, numbers, side="right")]
