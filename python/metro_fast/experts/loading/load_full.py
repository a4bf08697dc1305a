"""Loading of the residual of a full finetune."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from metro_fast._extras import require
from metro_fast.errors import MetroFastError
from metro_fast.experts.compression.source import read_initial
from metro_fast.experts.expert import Expert
from metro_fast.experts.loading.checks import check_base
from metro_fast.experts.loading.snapshot import keep_values, put_back
from metro_fast.experts.loading.undo import Undo, all_or_nothing
from metro_fast.experts.loading.untie import check_tied

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
        MetroFastError: If the base is a different or a quantized one, the model lacks a tensor, its
            weights are elsewhere (offloaded, on the meta device, sharded), or a sum does not fit.
    """
    check_base(model)
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
    return replace_weights(model, {n: t for n, t in tensors.items() if n in state})


def replace_weights(model: ModelT, tensors: "Mapping[str, torch.Tensor]") -> ModelT:
    """Write tensors into a model's weights, if all of them fit.

    Args:
        model: The model; changed in place, unless something does not fit.
        tensors: The values by the names of the model's state dict.

    Returns:
        The model, in evaluation mode.

    Raises:
        MetroFastError: If the model lacks a name, a shape differs, values differ for two names of
            one weight, or a value is too large for the dtype of the weight.
    """
    torch = require("torch", "peft")
    state = model.state_dict()
    for name, tensor in tensors.items():
        shape = tuple(state[name].shape) if name in state else "no place"
        if shape != tuple(tensor.shape):
            raise MetroFastError(
                f"{name} has shape {tuple(tensor.shape)} in the expert, {shape} in the model"
            )
    check_tied(state, tensors)
    for name, tensor in tensors.items():
        sums = torch.isfinite(tensor.to(state[name].dtype))
        if not (sums | ~torch.isfinite(state[name]).to(sums.device)).all():
            raise MetroFastError(
                f"{name} does not fit the model's dtype {state[name].dtype} (a sum is not finite): "
                "load the model in a wider dtype"
            )

    def work(undo: Undo) -> ModelT:
        undo.callback(_set_modes, [(module, module.training) for module in model.modules()])
        undo.callback(put_back, keep_values([state[name] for name in tensors]))
        model.load_state_dict(dict(tensors), strict=False)
        return model.eval()

    with torch.no_grad():
        return all_or_nothing(work)


def _set_modes(modes: list[tuple[Any, bool]]) -> None:
    for module, training in modes:
        module.training = training
