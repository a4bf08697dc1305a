"""The check that a checkpoint has every weight, tied ones under one of their names."""

from typing import Any

from torch import Tensor, nn

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


def _place(weight: Tensor) -> tuple[Any, ...]:
    """The same for two names of one tensor; an empty tensor has no place of its own."""
    place = weight.data_ptr() if weight.numel() else id(weight)
    return (place, weight.shape, weight.device)
