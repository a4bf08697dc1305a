"""Settings of an adapter that change the forward pass, compared and refused by name."""

from collections.abc import Mapping
from typing import Any

from metro_fast._shown import shown
from metro_fast.errors import MetroFastError

_MAY_DIFFER = frozenset(
    {
        # Where an adapter comes from, and how it was trained.
        *("auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "revision"),
        *("task_type", "lora_dropout", "init_lora_weights", "init_ia3_weights", "velora_config"),
        *("corda_config", "eva_config", "loftq_config", "lora_ga_config", "runtime_config"),
        *("megatron_config", "megatron_core"),
        # The modules that it adapts, which the names of its tensors say exactly.
        *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
        "modules_to_save",
        # Ranks, which the shapes say, and scalings, which are compared module by module.
        *("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora"),
    }
)
"""Settings that do not change what a given set of tensors does to a model. All others do, or belong
to a later PEFT and may do: a pool requires that they are equal."""

_NOT_MERGEABLE = {
    "alora_invocation_tokens": "an activated LoRA (aLoRA) changes only the tokens that follow its "
    "invocation, and a weight changes all of them",
    "arrow_config": "Arrow chooses adapters by the input, and a weight is the same for all inputs",
    "layer_replication": "layers that are repeated share one weight, and each has its own update",
}

_NOT_ADDITIVE = {
    "alora_invocation_tokens": "PEFT looks for the invocation tokens of one adapter only",
    "arrow_config": "Arrow chooses adapters by the input",
    "bias": "it replaces biases of the base, and the next expert would replace them again",
    "use_dora": "DoRA scales the sum of the base and its own update, so two do not add up",
}


def check_same_settings(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Check that two adapters with the same tensors would compute the same.

    Args:
        ours: An adapter_config.json, parsed.
        theirs: That of the adapter in the model.

    Raises:
        MetroFastError: If a setting differs that changes the forward pass; the message names it.

    Example:
        >>> check_same_settings({"r": 4, "use_dora": False}, {"r": 8})
        >>> check_same_settings({"alora_invocation_tokens": [7]}, {"alora_invocation_tokens": [8]})
        Traceback (most recent call last):
        ...
        metro_fast._core.MetroFastError: alora_invocation_tokens is [7], but the experts of the \
pool have [8]: use another pool for this expert
    """
    # The kind of the adapter comes first, since other settings differ with it.
    keys = sorted(
        (set(ours) | set(theirs)) - _MAY_DIFFER, key=lambda key: (key != "peft_type", key)
    )
    for key in keys:
        if key == "qalora_group_size" and not (ours.get("use_qalora") or theirs.get("use_qalora")):
            continue
        mine, other = _comparable(key, ours.get(key)), _comparable(key, theirs.get(key))
        if mine != other:
            raise MetroFastError(
                f"{shown(key)} is {shown(mine)}, but the experts of the pool have {shown(other)}: "
                "use another pool for this expert"
            )


def check_mergeable(config: Mapping[str, Any]) -> None:
    """Check that weights can hold what an adapter does.

    Raises:
        MetroFastError: If its effect depends on the input; the message names the setting.
    """
    for key, reason in _NOT_MERGEABLE.items():
        if config.get(key):
            raise MetroFastError(f"{key} is set: {reason}, so use load_expert")


def check_additive(name: str, config: Mapping[str, Any]) -> None:
    """Check that an adapter's update can be active together with those of others.

    Raises:
        MetroFastError: If it cannot; the message names the setting.
    """
    for key, reason in _NOT_ADDITIVE.items():
        if config.get(key) not in (None, False, "none", []):
            raise MetroFastError(
                f"{key} of expert {name!r} is set: {reason}; load it alone, with load_expert"
            )


def _comparable(key: str, value: Any) -> Any:
    if key == "peft_type":
        return str(value).rpartition(".")[2].upper()
    if isinstance(value, list | set | tuple) and key != "alora_invocation_tokens":
        return sorted(value, key=str) or None
    # An older PEFT left the field out, or wrote another word for the same.
    return None if value in (False, "none", [], {}) else value
