"""Rows of an evaluation, each on exactly one rank."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader

from metro_fast.errors import MetroFastError


def evaluation_loader(dataset: Any, args: Any, collator: Callable[[Any], Any]) -> DataLoader[Any]:
    """Make the loader of this rank's rows.

    The stock loader repeats rows until every rank has the same number of them, which would count
    some rows twice.

    Args:
        dataset: Rows with a length.
        args: The training arguments.
        collator: Makes batches.

    Returns:
        A loader of every `world_size`-th row.

    Raises:
        MetroFastError: If there is no dataset.
        TypeError: If it has no length.
    """
    if dataset is None:
        raise MetroFastError("there is no evaluation data: pass eval_dataset")
    if not hasattr(dataset, "__len__"):
        raise TypeError(f"{type(dataset).__name__} has no length, which evaluation needs")
    return DataLoader(
        dataset,
        batch_size=args.eval_batch_size,
        sampler=range(args.process_index, len(dataset), args.world_size),
        collate_fn=collator,
        num_workers=args.dataloader_num_workers,
        # A loader draws a seed when it starts. From the global generator, it would change the
        # dropout of the steps that follow.
        generator=torch.Generator().manual_seed(args.seed),
    )
