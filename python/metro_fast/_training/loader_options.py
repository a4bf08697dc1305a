"""The options of a DataLoader that the training arguments hold."""

from typing import Any

import torch

from metro_fast.errors import MetroFastError


def check_epochs_reach_workers(args: Any, *parts: Any) -> None:
    """Refuse workers that would keep the epoch with which they were started.

    Args:
        args: The training arguments.
        *parts: A dataset and a collator, in which `set_epoch` may set a plain number.

    Raises:
        MetroFastError: If workers last for several epochs, and a part has such a number.
    """
    if not (args.dataloader_persistent_workers and args.dataloader_num_workers):
        return
    for part in parts:
        while part is not None:  # a Subset holds its corpus as `dataset`
            own = getattr(part, "__dict__", {})
            plain = any(type(own.get(name)) is int for name in ("epoch", "_epoch"))
            if plain and hasattr(part, "set_epoch"):
                raise MetroFastError(
                    f"dataloader_persistent_workers=True, but {type(part).__name__} has its epoch "
                    "as a plain number, which such workers would never see change: leave the "
                    "option out, or have the epoch in a metro_fast.data.EpochCell"
                )
            part = getattr(part, "dataset", None)


def worker_options(args: Any) -> dict[str, Any]:
    """The options that concern worker processes, pinned memory and random numbers.

    Args:
        args: The training arguments.
    """
    return {
        "num_workers": args.dataloader_num_workers,
        "pin_memory": args.dataloader_pin_memory,
        "prefetch_factor": args.dataloader_prefetch_factor,
        # older releases of transformers do not have it
        "multiprocessing_context": getattr(args, "dataloader_multiprocessing_context", None),
        # A loader draws a seed when it starts. From the global generator, it would change the
        # dropout of the steps that follow.
        "generator": torch.Generator().manual_seed(args.seed),
    }
