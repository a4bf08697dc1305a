"""The residual of a full finetune put onto its base."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metro_fast._extras import require
from metro_fast.errors import MetroFastError
from metro_fast.experts.compression.source import read_initial
from metro_fast.experts.expert import Expert


def load_full(
    model: Any, expert: Expert, initial: Mapping[str, Any] | str | Path | None = None
) -> Any:
    """Set a model's weights to base plus residual.

    The base is the model itself, or what `initial` names: a second expert needs that, since a
    residual is never taken off again (in 16 bits a sum cannot be undone). The checksum in the
    expert tells whether the base is the right one.

    Args:
        model: A transformers or torch model; changed in place, unless something does not fit.
        expert: A full residual.
        initial: The pristine weights, if the model has others: a state dict or a checkpoint.

    Returns:
        The model, in evaluation mode.

    Raises:
        MetroFastError: If the base is another one or has few bits (quantized), or the model lacks
            a tensor.
    """
    torch = require("torch", "peft")
    state = model.state_dict()
    needed = [tensor.name for tensor in expert.manifest.tensors] + list(expert.dense)
    for name in needed:
        if name not in state:
            raise MetroFastError(f"the model has no {name}: the expert was made of another one")
        if not state[name].is_floating_point() and name not in expert.dense:
            raise MetroFastError(
                f"{name} of the model is {state[name].dtype}: a full residual needs the base in "
                "its own precision, not quantized"
            )
    given = dict((read_initial(initial) if initial is not None else state) or {})
    if not expert.manifest.needs_initial:
        raise MetroFastError("the expert was made without initial=: it is no residual of a model")
    tensors = expert.state_dict(initial=given)
    for name, tensor in tensors.items():
        if name in state and tuple(state[name].shape) != tuple(tensor.shape):
            shapes = f"{tuple(tensor.shape)}, the model's {tuple(state[name].shape)}"
            raise MetroFastError(f"{name} has shape {shapes}")
    with torch.no_grad():
        model.load_state_dict({n: t for n, t in tensors.items() if n in state}, strict=False)
    return model.eval()
