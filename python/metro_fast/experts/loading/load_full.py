"""Loading of the residual of a full finetune."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from metro_fast._extras import require
from metro_fast.errors import MetroFastError
from metro_fast.experts.compression.source import read_initial
from metro_fast.experts.expert import Expert

if TYPE_CHECKING:
    import torch

ModelT = TypeVar("ModelT", bound="torch.nn.Module")
"""The type of the model that an expert is loaded into."""


def load_full(
    model: ModelT, expert: Expert, initial: Mapping[str, Any] | str | Path | None = None
) -> ModelT:
    """Set a model's weights to base plus residual.

    The base is the model itself, or `initial`. A second expert needs `initial`, because a residual
    is never subtracted again (in 16 bits a sum cannot be undone). The checksum in the expert shows
    whether the base is the right one.

    Args:
        model: A transformers or torch model; changed in place, unless something does not fit.
        expert: A full residual.
        initial: The original weights, if the model has others: a state dict or a checkpoint.

    Returns:
        The model, in evaluation mode.

    Raises:
        MetroFastError: If the base is a different or a quantized one, or the model lacks a tensor.
    """
    torch = require("torch", "peft")
    state = model.state_dict()
    needed = [tensor.name for tensor in expert.manifest.tensors] + list(expert.dense)
    for name in needed:
        if name not in state:
            raise MetroFastError(f"the model has no {name}: the expert was made from another model")
        if not state[name].is_floating_point() and name not in expert.dense:
            raise MetroFastError(
                f"{name} of the model has dtype {state[name].dtype}, but a full residual needs the "
                "base in its own precision, not quantized"
            )
    given = dict((read_initial(initial) if initial is not None else state) or {})
    if not expert.manifest.needs_initial:
        raise MetroFastError(
            "the expert was made without initial=, so it is not the residual of a model: use its "
            "state_dict()"
        )
    tensors = expert.state_dict(initial=given)
    for name, tensor in tensors.items():
        if name in state and tuple(state[name].shape) != tuple(tensor.shape):
            raise MetroFastError(
                f"{name} has shape {tuple(tensor.shape)} in the expert, "
                f"{tuple(state[name].shape)} in the model"
            )
    with torch.no_grad():
        model.load_state_dict({n: t for n, t in tensors.items() if n in state}, strict=False)
    return model.eval()
