"""A model in two parts: its base, and the adapters of PEFT that change what it computes."""

import sys
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch

__all__ = ["AdapterPart", "split"]

# Fields of an adapter's configuration that describe its origin or its training.
_IGNORED = frozenset(
    {
        "auto_mapping", "base_model_name_or_path", "inference_mode", "init_ia3_weights",
        "init_lora_weights", "lora_dropout", "peft_version", "revision", "task_type",
    }
)  # fmt: skip


@dataclass(frozen=True)
class AdapterPart:
    """Everything that adapters add to a base.

    Attributes:
        tensors: By name, without those of adapters that are not active.
        layers: The state of each layer besides its tensors, by the name of the layer.
        configs: The settings of each active adapter, by its name.
    """

    tensors: dict[str, Any]
    layers: dict[str, dict[str, Any]]
    configs: dict[str, dict[str, Any]]

    def __bool__(self) -> bool:
        return bool(self.tensors or self.layers)


def split(model: torch.nn.Module) -> tuple[dict[str, Any], AdapterPart]:
    """Split the entries of a model's state dict.

    Adapters that are disabled or not active, and not merged into the base, change nothing, and are
    left out.

    Args:
        model: Any model, also with PEFT's layers in it.

    Returns:
        The entries of the base by their names in the model without PEFT, and the adapters.
    """
    wrappers = _wrappers(model)
    layers = {
        path: state
        for path, (module, _) in wrappers.items()
        if (state := _state_of(module)) is not None
    }
    base: dict[str, Any] = {}
    own: dict[str, Any] = {}
    # The state dict names persistent buffers alone; the others are computed from the configuration.
    for name, value in model.state_dict(keep_vars=True).items():
        plain, owner = _plain_name(name, wrappers)
        if owner is None:
            base[plain] = value
        elif _counts(name, owner, wrappers[owner][0], layers):
            own[plain] = value
    active = {adapter for state in layers.values() for adapter in state["adapters"]}
    given: Any = getattr(model, "peft_config", None)
    configs = {
        name: {k: v for k, v in config.to_dict().items() if k not in _IGNORED}
        for name, config in (given if isinstance(given, dict) else {}).items()
        if name in active
    }
    states = {_plain_name(path, wrappers)[0]: state for path, state in layers.items()}
    return base, AdapterPart(own, states, configs)


def _wrappers(model: torch.nn.Module) -> dict[str, tuple[Any, str | None]]:
    """PEFT's modules by their paths, each with the name of its child that holds the base."""
    if "peft" not in sys.modules:  # then none of its classes can be in the model
        return {}
    from peft import PeftMixedModel, PeftModel
    from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    children = {
        PeftModel: ("base_model",),
        PeftMixedModel: ("base_model",),
        BaseTuner: ("model",),
        BaseTunerLayer: ("base_layer",),
        AuxiliaryTrainingWrapper: ("original_module", "token_adapter"),
    }
    found: dict[str, tuple[Any, str | None]] = {}
    # A tied module has several paths, and so have its tensors.
    for path, module in model.named_modules(remove_duplicate=False):
        for kind, names in children.items():
            if isinstance(module, kind):
                there = dict(module.named_children())
                found[path] = module, next((name for name in names if name in there), None)
    return found


def _plain_name(name: str, wrappers: dict[str, tuple[Any, str | None]]) -> tuple[str, str | None]:
    """A name without the children that PEFT adds, and the path of the wrapper that owns it."""
    parts = name.split(".")
    kept = []
    for place, part in enumerate(parts):
        path = ".".join(parts[:place])
        child = wrappers[path][1] if path in wrappers else None
        if child is None:
            kept.append(part)
        elif child != part:
            return ".".join([*kept, *parts[place:]]), path
    return ".".join(kept), None


def _state_of(module: Any) -> dict[str, Any] | None:
    """The state of one of PEFT's modules besides its tensors; None if it changes nothing."""
    active: Any = getattr(module, "active_adapters", None)
    if hasattr(module, "peft_config") or not isinstance(active, list | tuple):
        return _prompt_state(module)
    merged = list(getattr(module, "merged_adapters", ()))
    disabled = bool(getattr(module, "disable_adapters", False))
    there = _adapters_in(module)
    used = [] if disabled else [name for name in active if name in there]
    adapters = list(dict.fromkeys([*used, *merged]))
    if not adapters:
        return None
    state: dict[str, Any] = {
        "kind": type(module).__name__,
        "adapters": adapters,
        "merged": merged,
        "disabled": disabled,
    }
    for field, value in vars(module).items():  # scaling, use_dora, is_feedforward and others
        if field.startswith("_") or field == "training":
            continue
        if isinstance(value, bool):
            state[field] = value
        elif isinstance(value, dict):
            settings = {name: _setting(value[name]) for name in adapters if name in value}
            state[field] = {name: s for name, s in settings.items() if s is not None}
    return state


def _setting(value: Any) -> Any:
    """A value for JSON, or None if it is not a setting; a scaling may be a tensor."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    return value if isinstance(value, bool | int | float | str) else None


def _prompt_state(model: Any) -> dict[str, Any] | None:
    """The state of virtual tokens, which belong to the whole model and not to a layer."""
    # Of PEFT's modules, only a PeftModel and its tuner have configurations.
    configs = getattr(model, "peft_config", None) or {}
    active = getattr(model, "active_adapter", ())
    names = [active] if isinstance(active, str) else list(active)
    prompts = [name for name in names if name in configs and configs[name].is_prompt_learning]
    if not prompts:
        return None
    disabled = bool(getattr(model, "_adapters_disabled", False))
    return {"kind": type(model).__name__, "adapters": prompts, "disabled": disabled}


def _adapters_in(module: Any) -> set[str]:
    """Names of the adapters that a layer holds."""
    found: set[str] = set()
    for name in module.adapter_layer_names:
        held = attrgetter(name)(module)
        found.update(held.keys() if hasattr(held, "keys") else ())
    return found


def _counts(name: str, owner: str, module: Any, layers: dict[str, dict[str, Any]]) -> bool:
    """Whether a tensor that PEFT added counts; only one that surely changes nothing does not."""
    if hasattr(module, "peft_config"):  # virtual tokens, and tensors that all layers share
        return True
    if owner not in layers:
        return False
    unused = _adapters_in(module) - set(layers[owner]["adapters"])
    rest = name.removeprefix(f"{owner}.")
    return not any(
        rest.startswith(f"{container}.{adapter}.") or rest == f"{container}.{adapter}"
        for container in module.adapter_layer_names
        for adapter in unused
    )
