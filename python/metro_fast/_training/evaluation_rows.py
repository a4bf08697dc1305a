"""Rows of an evaluation, each on exactly one rank, with the same noise each time."""

import copy
from collections.abc import Callable
from typing import Any

from torch.utils.data import DataLoader

from metro_fast._training.loader_options import worker_options
from metro_fast._training.streams import RankRows, is_split, is_stream
from metro_fast.errors import MetroFastError

_ALONE = {"num_workers": 0, "prefetch_factor": None, "multiprocessing_context": None}


def at_epoch_zero(part: Any) -> Any:
    """Copy a collator or a dataset that has epochs, and set the epoch of the copy to 0.

    The training's own would give each evaluation the noise of the training's epoch; and its epoch
    cannot be changed, since workers make the training's next batches during an evaluation.

    Args:
        part: A collator or dataset; one without `set_epoch`, in itself or in the datasets that it
            is made from, is returned as it is. So is a stream, which may not be copied.

    Raises:
        MetroFastError: If it has epochs and cannot be copied.
    """
    inner = part
    while inner is not None and not hasattr(inner, "set_epoch"):
        inner = getattr(inner, "dataset", None)
    if inner is None or is_stream(part):
        return part
    try:
        own = copy.deepcopy(part)
    except TypeError as error:
        raise MetroFastError(
            f"{type(part).__name__} has epochs, so an evaluation needs a copy of it, but it cannot "
            f"be copied ({error}): give it a __deepcopy__, or use one without set_epoch"
        ) from error
    inner = own
    while inner is not None:
        if hasattr(inner, "set_epoch"):
            inner.set_epoch(0)
        inner = getattr(inner, "dataset", None)
    return own


def evaluation_loader(dataset: Any, args: Any, collator: Callable[[Any], Any]) -> DataLoader[Any]:
    """Make the loader of this rank's rows.

    The stock loader repeats rows until every rank has the same number of them, which would count
    some rows twice.

    Args:
        dataset: Rows with a length, or a stream that ends.
        args: The training arguments.
        collator: Makes batches.

    Returns:
        A loader of every `world_size`-th row. A stream is read without workers, which would have to
        divide its rows among them.

    Raises:
        MetroFastError: If there is no dataset.
        TypeError: If it neither has a length nor is a stream.
    """
    if dataset is None:
        raise MetroFastError("there is no evaluation data: pass eval_dataset")
    options = {**worker_options(args), "batch_size": args.eval_batch_size, "collate_fn": collator}
    if is_stream(dataset):
        if args.split_stream and args.world_size > 1 and not is_split(dataset):
            dataset = RankRows(dataset, args.process_index, args.world_size)
        return DataLoader(dataset, **{**options, **_ALONE})
    if not hasattr(dataset, "__len__"):
        raise TypeError(
            f"{type(dataset).__name__} has no length, which evaluation needs: give it __len__, or "
            "make it a stream (torch.utils.data.IterableDataset)"
        )
    mine = range(args.process_index, len(dataset), args.world_size)
    return DataLoader(dataset, sampler=mine, **options)
