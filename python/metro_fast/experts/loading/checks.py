"""Checks that a model's weights are all here, and that its adapter can be changed in place."""

from collections.abc import Iterator, Sequence
from typing import Any

from metro_fast._extras import require
from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError

_MOVING_HOOKS = ("group_offloading", "layerwise_casting")
"""Hooks of diffusers that hold other weights between two calls than during one."""


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
                f"set_adapter({quoted(adapter_name)})"
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


def check_base(model: Any) -> None:
    """Check that a model is one into which weights can be loaded: whole, here, and not wrapped.

    Args:
        model: What a caller passed as the model.

    Raises:
        TypeError: If it is not a torch module.
        MetroFastError: If some of its weights are elsewhere (offloaded, on the meta device, sharded
            by ZeRO-3), or it is a wrapper that changes the names of its tensors.
    """
    torch = require("torch", "peft")
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"the model is a {type(model).__name__}, expected a torch module")
    if hasattr(model, "_orig_mod"):
        raise MetroFastError(
            "the model is compiled: load the expert into the model itself, and call torch.compile "
            "afterwards"
        )
    if isinstance(model, torch.nn.DataParallel | torch.nn.parallel.DistributedDataParallel):
        raise MetroFastError(
            f"the model is inside a {type(model).__name__}, which renames its tensors: pass "
            "model.module"
        )
    for name, module in model.named_modules():
        if any(getattr(hook, "offload", False) for hook in _accelerate_hooks(module)):
            raise MetroFastError(
                f"{name or 'the model'} is offloaded by accelerate, which would restore old "
                "weights: load the model without offloading"
            )
        registry = getattr(getattr(module, "_diffusers_hook", None), "hooks", {})
        moving = [hook for hook in _MOVING_HOOKS if hook in registry]
        if moving:
            raise MetroFastError(
                f"{name or 'the model'} has the hook {moving[0]} of diffusers, which moves or "
                "rounds its weights: load the expert first, and enable the hook afterwards"
            )
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if hasattr(tensor, "ds_status") or type(tensor).__name__ == "FlatParameter":
            raise MetroFastError(
                f"{name} is sharded over processes (DeepSpeed ZeRO-3 or FSDP), so the whole tensor "
                "is not here: load the expert before sharding the model"
            )
        if tensor.is_meta:
            raise MetroFastError(
                f"{name} has no data here (it is on the meta device): load the model with its "
                "weights in memory, without offloading to disk and without init_empty_weights"
            )


def _accelerate_hooks(module: Any) -> Iterator[Any]:
    """The hooks that accelerate put on a module, those inside of a sequence of hooks too."""
    waiting = [getattr(module, "_hf_hook", None)]
    while waiting:
        hook = waiting.pop()
        waiting += getattr(hook, "hooks", ())
        yield hook
