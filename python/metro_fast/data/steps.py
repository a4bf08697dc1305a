"""The indices of an epoch that a rank takes in every step."""

from collections.abc import Iterator

from metro_fast.errors import MetroFastError
from metro_fast.ops.draws import check_counter


class Steps:
    """A batch sampler that can begin at any step, and divides every step among the ranks.

    Args:
        rows: Number of rows in an epoch.
        batch_size: Number of rows in a step, over all ranks.
        rank: Index of the share to take.
        world_size: Number of shares, which divides `batch_size`.
        drop_last: Whether to leave out a last step that is shorter. If it is kept, its shares
            differ by at most one row.

    Attributes:
        first: The step at which an iteration begins.
        count: Number of steps in an epoch.

    Raises:
        MetroFastError: If sizes do not fit each other, or an epoch has no step.

    Example:
        >>> list(Steps(10, 4, rank=1, world_size=2, drop_last=False))
        [[2, 3], [6, 7], [9]]
    """

    def __init__(
        self, rows: int, batch_size: int, rank: int, world_size: int, drop_last: bool
    ) -> None:
        check_counter("rank", rank)
        if (
            check_counter("batch_size", batch_size) == 0
            or check_counter("world_size", world_size) == 0
        ):
            raise MetroFastError(
                f"batch_size is {batch_size} and world_size {world_size}, expected 1 or more"
            )
        if rank >= world_size:
            raise MetroFastError(
                f"rank is {rank}, expected 0 to {world_size - 1} for world_size {world_size}"
            )
        if batch_size % world_size:
            raise MetroFastError(
                f"batch_size is {batch_size} rows over all ranks, expected a multiple of "
                f"world_size {world_size}"
            )
        self.rows = rows
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.drop_last = drop_last
        self.first = 0
        self.count = rows // batch_size if drop_last else -(-rows // batch_size)
        if self.count == 0:
            raise MetroFastError(
                f"batch_size is {batch_size}, but an epoch has {rows} rows: use a smaller one, or "
                "drop_last=False"
            )
        last = rows - (self.count - 1) * batch_size
        if last < world_size:
            raise MetroFastError(
                f"the last step of an epoch has {last} rows for world_size {world_size}, expected "
                "at least one for every rank: use drop_last=True or another batch_size"
            )

    def __len__(self) -> int:
        return self.count - self.first

    def __iter__(self) -> Iterator[list[int]]:
        # `first` is read once, because it changes while batches are still being requested.
        for step in range(self.first, self.count):
            start = step * self.batch_size
            size = min(self.batch_size, self.rows - start)
            low = size * self.rank // self.world_size
            high = size * (self.rank + 1) // self.world_size
            yield list(range(start + low, start + high))
