"""The parameters of an adapter, by the names that PEFT saves them under."""

from typing import TYPE_CHECKING, Any

from metro_fast._extras import require
from metro_fast.errors import MetroFastError
from metro_fast.experts.loading.fill import saved_tensors

if TYPE_CHECKING:
    import torch


def parameters_by_key(adapted: Any, adapter_name: str) -> "dict[str, torch.nn.Parameter]":
    """Find the parameters of an adapter among those of its model, by their addresses.

    Raises:
        MetroFastError: If a saved tensor is not a parameter of the model.
    """
    peft = require("peft", "peft")
    saved = saved_tensors(peft, adapted, adapter_name)
    places = {(p.data_ptr(), tuple(p.shape)): p for p in adapted.parameters()}
    found = {}
    for name, tensor in saved.items():
        parameter = places.get((tensor.data_ptr(), tuple(tensor.shape)))
        if parameter is None:
            raise MetroFastError(
                f"{name} is not saved as it is in the model (a variant of the adapter, or "
                "offloaded): use load_expert"
            )
        found[name] = parameter
    return found
