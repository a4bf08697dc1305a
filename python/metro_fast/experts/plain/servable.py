"""Which experts the servers of LoRA read as PEFT does, and the refusal of all others by name.

Servers read a few fields of adapter_config.json and leave out the others without a word
(docs/serving.md has the table, with the files of each server). If it changes the result, it is
either written in another way (`served`) or refused here.
"""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.peft_folder import CONFIG, kind_of, parse_config
from metro_fast.experts.adapters.roles import factor_of
from metro_fast.experts.adapters.scaling import module_of
from metro_fast.experts.expert import Expert

_REFUSED = {
    "alora_invocation_tokens": "servers would apply an activated LoRA (aLoRA) to every token, and "
    "it was trained for those after its invocation",
    "arrow_config": "Arrow chooses adapters by the input, and servers do not",
    "bias": "servers do not load the trained biases of the base",
    "layer_replication": "servers load the base as it is, without repeated layers",
    "lora_bias": "servers do not add the biases of B",
    "trainable_token_indices": "servers do not load the trained rows of the embeddings",
    "use_dora": "servers do not read the magnitudes of DoRA, so they would add B A alone",
    "use_qalora": "servers do not pool the inputs of QA-LoRA",
}
"""Settings that change what A and B do, and that no server of the table reads."""

_WITHOUT_EFFECT = frozenset(
    {
        # Where the adapter comes from, and how it was trained.
        *("auto_mapping", "base_model_name_or_path", "inference_mode", "peft_type", "peft_version"),
        *("revision", "task_type", "corda_config", "ensure_weight_tying", "eva_config"),
        *("init_lora_weights", "loftq_config", "lora_dropout", "lora_ga_config", "megatron_config"),
        *("megatron_core", "qalora_group_size", "runtime_config", "velora_config"),
        # The modules, which the names of the tensors say; heads are refused as tensors.
        *("exclude_modules", "layers_pattern", "layers_to_transform", "modules_to_save"),
        "target_modules",
        # Orientation of the base's own weight, and scalings, which `served` rewrites.
        *("fan_in_fan_out", "alpha_pattern", "lora_alpha", "r", "rank_pattern", "use_rslora"),
    }
)
"""Settings that a server need not read for the same result."""


def check_servable(name: str, expert: Expert) -> dict[str, Any]:
    """Check that servers would add what PEFT adds.

    Args:
        name: The expert's name, for messages.
        expert: The expert.

    Returns:
        Its configuration, parsed.

    Warns:
        UserWarning: If some servers leave out a part of the expert: embeddings, or kinds of modules
            that only some layers have.

    Raises:
        MetroFastError: If no server would; the message names the setting or the tensor.
    """
    if expert.config is None:
        raise MetroFastError(f"{name} has no {CONFIG}, and servers only load PEFT adapters")
    config = parse_config(expert.config)
    kind = kind_of(config)
    if kind != "lora":
        raise MetroFastError(
            f"{name} has kind {quoted(kind)} ({config['peft_type']}), and servers only load LoRA"
        )
    if not config.get("base_model_name_or_path"):
        raise MetroFastError(
            f"the {CONFIG} of {name} has no base_model_name_or_path, which servers need: add it"
        )
    _check_settings(name, config)
    if expert.manifest.needs_initial:
        raise MetroFastError(
            f"{name} was compressed with initial=, which a served folder would need: decompress it "
            "with initial=, and compress that without"
        )
    if expert.dense:
        head = next(iter(expert.dense))
        raise MetroFastError(
            f"{name} has dense tensors ({head}), from modules_to_save or another part of the "
            "adapter, which servers do not load"
        )
    _check_tensors(name, {tensor.name: tensor.shape for tensor in expert.manifest.tensors})
    return config


def _check_settings(name: str, config: Mapping[str, Any]) -> None:
    for key, value in sorted(config.items()):
        if not value or value == "none" or key in _WITHOUT_EFFECT:
            continue
        if key not in _REFUSED:
            if "peft_version" not in config:
                continue  # PEFT ignores what it does not know, and its older fields are known
            raise MetroFastError(
                f"{key} of {name} is set ({quoted(value)}), and whether servers read it is "
                f"unknown: remove it from {CONFIG} if it has no effect"
            )
        raise MetroFastError(
            f"{key} of {name} is set: {_REFUSED[key]}. Use load_expert, or add_to_base where it "
            "accepts the expert and serve the result"
        )


def _check_tensors(name: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    for tensor, shape in shapes.items():
        factor = factor_of(tensor)
        if factor is None or factor.partner not in shapes:
            raise MetroFastError(f"{name} has {tensor} without the other factor of its update")
        if len(shape) != 2:
            raise MetroFastError(
                f"{tensor} of {name} has shape {shape}: servers do not adapt convolutions"
            )
    embeddings = [tensor for tensor in shapes if ".lora_embedding_" in tensor]
    if embeddings:
        warnings.warn(
            f"{name} adapts embeddings ({embeddings[0]}), which LoRAX and TGI leave out",
            stacklevel=4,
        )
    partial = _partial({module_of(tensor) for tensor in shapes})
    if partial:
        warnings.warn(
            f"{name} adapts {partial[0]} and not that module of every layer: LoRAX and TGI leave "
            "out a kind of module that a layer lacks",
            stacklevel=4,
        )


def _partial(modules: Iterable[str]) -> list[str]:
    """Modules of a layer whose counterparts in other layers are not adapted.

    The number of the model's layers is not known, so those up to the last one that is adapted are
    compared.
    """
    layers: dict[tuple[str, str], set[int]] = {}
    for module in modules:
        parts = module.split(".")
        at = next((i for i, part in enumerate(parts) if part.isdigit()), None)
        if at is not None:
            key = (".".join(parts[:at]), ".".join(parts[at + 1 :]))
            layers.setdefault(key, set()).add(int(parts[at]))
    last: dict[str, int] = {}
    for (stack, _), numbers in layers.items():
        last[stack] = max(last.get(stack, 0), *numbers)
    return sorted(
        f"{stack}.{min(numbers)}.{rest}"
        for (stack, rest), numbers in layers.items()
        if len(numbers) <= last[stack]
    )
