"""When the adapter of a model may not be changed in place, and why."""

from collections.abc import Sequence
from typing import Any

from metro_fast.errors import MetroFastError


def check_layers(layers: Sequence[Any], adapter_name: str) -> None:
    """Check the state of the tuner layers, which a user may change between two swaps.

    Args:
        layers: PEFT's layers that hold the adapter.
        adapter_name: Its name.

    Raises:
        MetroFastError: If the adapter is merged, disabled, or not the only active one.
    """
    for layer in layers:
        if layer.merged:
            raise MetroFastError(
                "the adapter is merged into the base weights, where a swap would not reach it and "
                "unmerging would subtract another expert: call unmerge_adapter() first"
            )
        if layer.disable_adapters:
            raise MetroFastError(
                "adapters are disabled: leave disable_adapter() or call enable_adapter_layers()"
            )
        active = layer.active_adapters
        if active != [adapter_name]:
            raise MetroFastError(
                f"the active adapters are {active}, expected {[adapter_name]} alone: call "
                f"set_adapter({adapter_name!r})"
            )


def check_parameters(parameters: dict[str, Any]) -> None:
    """Check that parameters can be written to in place.

    Raises:
        MetroFastError: If one is sharded, offloaded, on another device than the others, or trained.
    """
    for name, parameter in parameters.items():
        if type(parameter.data).__name__ == "DTensor":
            raise MetroFastError(
                f"{name} is sharded over processes (FSDP): a pool needs whole parameters, use "
                "load_expert before sharding"
            )
        if parameter.is_meta:
            raise MetroFastError(
                f"{name} has no data here (meta device): the adapter is offloaded, put the whole "
                "model on one device"
            )
        first = next(iter(parameters.values())).device
        if parameter.device != first:
            raise MetroFastError(
                f"{name} is on {parameter.device}, others of the adapter on {first}: a pool "
                "decodes into one buffer, put the adapter on one device or use load_expert"
            )
        if parameter.requires_grad:
            raise MetroFastError(
                f"{name} requires gradients, which would be those of another expert after a swap: "
                "call requires_grad_(False), or use load_expert to train"
            )


def check_offload(model: Any) -> None:
    """Check that accelerate does not move the weights away between calls.

    Raises:
        MetroFastError: If a hook of it does.
    """
    for name, module in model.named_modules():
        if getattr(getattr(module, "_hf_hook", None), "offload", False):
            raise MetroFastError(
                f"{name} is offloaded by accelerate, which puts old weights back: load the model "
                "without offloading"
            )
