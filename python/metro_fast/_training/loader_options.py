"""The options of a DataLoader that the training arguments hold."""

from typing import Any

import torch


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
