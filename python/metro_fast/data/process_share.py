"""The share of the data that this process takes, where several processes divide it."""

import os
from typing import Any

from metro_fast.errors import MetroFastError


def share_of_process(torch: Any, rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Find out which share of the data is this process's, as far as it was not given.

    Args:
        torch: The module.
        rank: The index of the share, or None.
        world_size: The number of shares, or None.

    Returns:
        Both; what was not given is that of torch's process group, or 0 and 1 without a group.

    Raises:
        MetroFastError: If one of them was not given, and a launcher has started several processes
            that have not joined a process group, so that each would take all rows.

    Example:
        >>> import torch
        >>> share_of_process(torch, None, None), share_of_process(torch, 1, 4)
        ((0, 1), (1, 4))
    """
    if rank is not None and world_size is not None:
        return rank, world_size
    found = 0, 1
    group, started = torch.distributed, os.environ.get("WORLD_SIZE", "1")
    if group.is_available() and group.is_initialized():
        found = group.get_rank(), group.get_world_size()
    elif started != "1":
        raise MetroFastError(
            f"WORLD_SIZE is {started}, but this process has joined no group, so that each process "
            "would take all rows: call torch.distributed.init_process_group before the loader is "
            "made, or give both rank and world_size"
        )
    return found[0] if rank is None else rank, found[1] if world_size is None else world_size
