"""Checks that the adapter of a model can be changed in place."""

from collections.abc import Sequence
from typing import Any

from metro_fast.errors import MetroFastError


def check_layers(layers: Sequence[Any], adapter_name: str) -> None:
    """Check the state of the tuner layers, which a user may have changed between two swaps.

    Args:
        layers: PEFT's layers that hold the adapter.
        adapter_name: The adapter's name.

    Raises:
        MetroFastError: If the adapter is merged, disabled, or not the only active one.
    """
    for layer in layers:
        if layer.merged:
            raise MetroFastError(
                "the adapter is merged into the base weights: a swap would not change them, and "
                "unmerging later would subtract another expert; call unmerge_adapter() first"
            )
        if layer.disable_adapters:
            raise MetroFastError(
                "adapters are disabled: leave the block of disable_adapter(), or call "
                "enable_adapter_layers()"
            )
        active = layer.active_adapters
        if active != [adapter_name]:
            raise MetroFastError(
                f"the active adapters are {active}, expected only {[adapter_name]}: call "
                f"set_adapter({adapter_name!r})"
            )


def check_parameters(parameters: dict[str, Any]) -> None:
    """Check that parameters can be overwritten in place.

    Raises:
        MetroFastError: If one is sharded, offloaded, on another device than the others, or
            requires gradients.
    """
    for name, parameter in parameters.items():
        if type(parameter.data).__name__ == "DTensor":
            raise MetroFastError(
                f"{name} is sharded over processes (FSDP), but a pool needs whole parameters: use "
                "load_expert before sharding"
            )
        if parameter.is_meta:
            raise MetroFastError(
                f"{name} has no data here (it is on the meta device), because the adapter is "
                "offloaded: put the whole model on one device"
            )
        first = next(iter(parameters.values())).device
        if parameter.device != first:
            raise MetroFastError(
                f"{name} is on {parameter.device}, other parameters of the adapter on {first}, but "
                "a pool decodes into one buffer: put the adapter on one device, or use load_expert"
            )
        if parameter.requires_grad:
            raise MetroFastError(
                f"{name} requires gradients, and after a swap they would belong to another expert: "
                "call requires_grad_(False), or use load_expert to train"
            )


def check_offload(model: Any) -> None:
    """Check that accelerate does not move the weights between calls.

    Raises:
        MetroFastError: If one of its hooks does.
    """
    for name, module in model.named_modules():
        if getattr(getattr(module, "_hf_hook", None), "offload", False):
            raise MetroFastError(
                f"{name} is offloaded by accelerate, which would restore old weights: load the "
                "model without offloading"
            )
