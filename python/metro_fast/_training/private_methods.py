"""The undocumented methods of transformers that the trainer and the model rely on.

A subclass that overrides a method which is no longer called fails silently: a checkpoint would lack
its mark, or rows would come in another order. So their signatures are checked on import.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from metro_fast.errors import MetroFastError

PRIVATE_METHODS: Mapping[str, tuple[str, ...]] = {
    # overridden by SummedLossTrainer, so transformers must call them
    "Trainer._get_train_sampler": ("self", "train_dataset"),
    "Trainer._get_grad_norm": ("self", "model", "grad_norm"),
    "Trainer._issue_warnings_after_load": ("self", "load_result"),
    "Trainer._load_from_checkpoint": ("self", "resume_from_checkpoint", "model"),
    "Trainer._load_rng_state": ("self", "checkpoint"),
    "Trainer._save_checkpoint": ("self", "model", "trial"),
    "Trainer._save_rng_state": ("self", "output_dir"),
    "Trainer._track_num_input_tokens": ("self", "inputs"),
    # called by SummedLossTrainer
    "Trainer._get_output_dir": ("self", "trial"),
    "Trainer._prepare_inputs": ("self", "inputs"),
    # overridden by MetroForPretraining
    "PreTrainedModel._init_weights": ("self", "module"),
    # public by their names, but not documented as places to override
    "Trainer.get_batch_samples": ("self", "epoch_iterator", "num_batches", "device"),
    "Trainer.compute_loss_context_manager": ("self",),
    "Trainer.get_optimizer_cls_and_kwargs": ("args", "model"),
}
"""Class and method to the names of its parameters, in order."""


def check_private_methods(transformers: Any) -> None:
    """Compare the signatures with those that this package was written for.

    Args:
        transformers: The module.

    Raises:
        MetroFastError: If a method is missing or has other parameters; the message names it, the
            version of transformers, and what to do.

    Example:
        >>> import transformers
        >>> check_private_methods(transformers)
    """
    for name, expected in PRIVATE_METHODS.items():
        owner, _, method = name.partition(".")
        found = getattr(getattr(transformers, owner), method, None)
        parameters = None if found is None else tuple(inspect.signature(found).parameters)
        if parameters != expected:
            now = "is gone" if parameters is None else f"takes ({', '.join(parameters)})"
            raise MetroFastError(
                f"{name} of transformers {transformers.__version__} {now}, but metro_fast relies "
                f"on {name}({', '.join(expected)}): install an older transformers (5.17 to 5.23 "
                "are known to work) or a newer metro_fast"
            )
