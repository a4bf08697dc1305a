"""The epoch, in memory that a trainer shares with its DataLoader workers."""

from typing import Any

import numpy as np
import numpy.typing as npt

from metro_fast._extras import require
from metro_fast.ops.draws import check_counter

_NEVER = -1


class EpochCell:
    """One epoch number for all processes that hold a copy of the cell.

    A stock Trainer never sets the epoch of a collator, and persistent workers keep the objects with
    which they were started, so a plain attribute would give every epoch the same noise. The cell is
    one int64 in shared memory: the training process sets it, and forked and spawned workers read
    it.

    A plain `pickle.dumps` (to a file, or to a queue of `multiprocessing` without torch) copies the
    value, and the copy is independent.

    Example:
        >>> cell = EpochCell()
        >>> cell.set(3)
        >>> cell.get()
        3
    """

    def __init__(self) -> None:
        torch = require("torch", "torch")
        # The epoch, and the sample id that `came_round` remembers.
        self._shared: Any = torch.full((2,), _NEVER, dtype=torch.int64).share_memory_()

    def get(self) -> int:
        """The epoch, which is 0 until it is set."""
        return max(0, int(self._shared[0]))

    def set(self, epoch: int) -> None:
        """Set the epoch for every process that shares the cell.

        Raises:
            TypeError: If it is not an integer.
            MetroFastError: If it is negative or 2^63 or more.
        """
        self._shared[0] = check_counter("epoch", epoch)

    def __repr__(self) -> str:
        return f"EpochCell({self.get()})"

    def came_round(self, sample_ids: npt.NDArray[np.int64]) -> bool:
        """Whether samples come a second time although nobody has ever set the epoch.

        The first sample id that any process passes is remembered. If it comes again, an epoch has
        ended unnoticed, and the next one repeats the noise.

        Args:
            sample_ids: int64 [B] ids of a batch.
        """
        if int(self._shared[0]) != _NEVER:
            return False
        first = int(self._shared[1])
        if first == _NEVER:
            self._shared[1] = int(sample_ids[0])
            return False
        return bool((sample_ids == first).any())
