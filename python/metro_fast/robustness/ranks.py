"""Several processes that share the cells of one evaluation, as `torchrun` starts them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from metro_fast._extras import require

require("torch", "eval")

import torch  # noqa: E402
from torch import distributed  # noqa: E402

from metro_fast._ranks import leave_group_at_exit  # noqa: E402
from metro_fast.errors import MetroFastError  # noqa: E402

__all__ = ["Ranks", "shares"]


@dataclass(frozen=True)
class Ranks:
    """The process among those that evaluate together.

    Attributes:
        rank: Its number.
        size: Number of processes.
        group: Their process group; None for a single process.
    """

    rank: int = 0
    size: int = 1
    group: Any = None

    @classmethod
    def current(cls) -> "Ranks":
        """The process group of this process, which is made if `torchrun` asks for one."""
        if not distributed.is_available():
            return cls()
        if not distributed.is_initialized():
            if int(os.environ.get("WORLD_SIZE", "1")) < 2:
                return cls()
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            distributed.init_process_group(backend)
            leave_group_at_exit()
        size = distributed.get_world_size()
        if size == 1:
            return cls()
        # Outcomes are Python objects, which gloo sends from the main memory.
        return cls(distributed.get_rank(), size, distributed.new_group(backend="gloo"))

    @property
    def is_first(self) -> bool:
        """Whether this process writes results and messages."""
        return self.rank == 0

    def from_first(self, value: Any) -> Any:
        """The first process's value, in all of them."""
        if self.size == 1:
            return value
        values = [value if self.is_first else None]
        distributed.broadcast_object_list(values, src=0, group=self.group)
        return values[0]

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, in order."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value, group=self.group)
        return values

    def check_same(self, values: Sequence[str]) -> None:
        """Refuse processes that were given different models, tasks or protocols.

        Raises:
            MetroFastError: If the values differ from those of another process.
        """
        for rank, other in enumerate(self.gather(list(values))):
            if other != list(values):
                raise MetroFastError(
                    f"ranks {self.rank} and {rank} were given different models, tasks, "
                    "instructions or protocols: give all ranks the same"
                )


def shares(costs: Sequence[int], size: int) -> list[list[int]]:
    """Share work among processes: the largest piece first, each to the one with the least.

    Args:
        costs: Cost of each piece.
        size: Number of processes.

    Returns:
        Indices of the pieces of each process, in order.

    Example:
        >>> shares([5, 1, 4, 2], 2)
        [[0, 1], [2, 3]]
    """
    found: list[list[int]] = [[] for _ in range(size)]
    loads = [0] * size
    for index in sorted(range(len(costs)), key=lambda i: -costs[i]):
        least = loads.index(min(loads))
        found[least].append(index)
        loads[least] += costs[index]
    return [sorted(part) for part in found]
