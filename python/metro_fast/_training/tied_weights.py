"""The checks that a checkpoint has every weight, tied ones under one of their names."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from metro_fast._adapter import check_adapter_names
from metro_fast.errors import FormatError


def check_loaded(model: nn.Module, load_result: Any) -> None:
    """Check that every weight was loaded, under its own name or that of a weight it is tied to.

    A checkpoint has each tied weight once, and transformers logs its other names as missing.

    Args:
        model: The model after loading.
        load_result: The `missing_keys` and `unexpected_keys` of `load_state_dict`.

    Raises:
        FormatError: If a weight was not loaded, or the checkpoint has one that the model lacks.
    """
    weights = model.state_dict(keep_vars=True)
    missing = [name for name in load_result.missing_keys if name in weights]
    loaded = {_place(weights[name]) for name in weights.keys() - set(missing)}
    lost = [name for name in missing if _place(weights[name]) not in loaded]
    for names, found in ((lost, "lacks"), (load_result.unexpected_keys, "has, unlike the model,")):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise FormatError(
                f"the checkpoint {found} {', '.join(names[:3])}{more}: load it into the model that "
                "it was saved from"
            )


def check_adapters(model: Any, checkpoint: Path) -> None:
    """Check that a checkpoint has exactly the weights of the active adapter of a PeftModel.

    transformers ignores what PEFT says about the names of loaded weights. A model without adapters
    is left to `check_loaded`.

    Args:
        model: The model that is about to be loaded.
        checkpoint: Folder of the checkpoint.

    Raises:
        FormatError: If a weight is missing or has no place in the model.
    """
    if not hasattr(model, "peft_config"):
        return
    name = model.active_adapters[0]
    # PEFT gives every adapter but "default" a folder of its own.
    folder = checkpoint if name == "default" else checkpoint / name
    check_adapter_names(model, folder, name)


def _place(weight: Tensor) -> tuple[Any, ...]:
    """The same for two names of one tensor; an empty tensor has no place of its own."""
    place = weight.data_ptr() if weight.numel() else id(weight)
    return (place, weight.shape, weight.device)
