"""The parameters of an adapter, by the names that PEFT saves them under."""

from typing import Any

from metro_fast._extras import require
from metro_fast.errors import MetroFastError


def parameters_by_key(adapted: Any, adapter_name: str) -> dict[str, Any]:
    """Parameters by the names that PEFT saves them under, found by their memory."""
    peft = require("peft", "peft")
    saved = peft.get_peft_model_state_dict(
        adapted, adapter_name=adapter_name, save_embedding_layers=False
    )
    places = {(p.data_ptr(), tuple(p.shape)): p for p in adapted.parameters()}
    found = {}
    for name, tensor in saved.items():
        parameter = places.get((tensor.data_ptr(), tuple(tensor.shape)))
        if parameter is None:
            raise MetroFastError(
                f"{name} is not a parameter of the model as it is saved (a variant of the adapter, "
                "or offloaded): use load_expert"
            )
        found[name] = parameter
    return found
