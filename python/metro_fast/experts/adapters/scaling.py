"""The factor by which PEFT multiplies B A, from the configuration of a LoRA."""

import math
import re
from collections.abc import Mapping
from typing import Any


def lora_scaling(config: Mapping[str, Any], module: str) -> float:
    """The scaling of a module, alpha / r, or alpha / sqrt(r) with rsLoRA (arXiv 2312.03732).

    Args:
        config: adapter_config.json, parsed.
        module: The module's name in the base model; patterns are matched against its end.

    Example:
        >>> lora_scaling({"r": 8, "lora_alpha": 16, "alpha_pattern": {"q": 4}}, "layer.0.q")
        0.5
    """
    rank = _of_pattern(config.get("rank_pattern"), module, config["r"])
    alpha = _of_pattern(config.get("alpha_pattern"), module, config["lora_alpha"])
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def lora_rank(config: Mapping[str, Any], module: str) -> int:
    """The rank that PEFT gives to the factors of a module.

    Args:
        config: adapter_config.json, parsed.
        module: The module's name in the base model.

    Example:
        >>> lora_rank({"r": 8, "rank_pattern": {"q": 4}}, "layer.0.q")
        4
    """
    return int(_of_pattern(config.get("rank_pattern"), module, config.get("r", 8)))


def _of_pattern(pattern: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    # The rule of peft.utils.other.get_pattern_key: a regular expression for the end of the name.
    for key, value in (pattern or {}).items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return default


def module_of(name: str) -> str:
    """The name, in the base model, of the module that a LoRA tensor belongs to.

    Example:
        >>> module_of("base_model.model.encoder.q.lora_B.weight")
        'encoder.q'
    """
    return name.removeprefix("base_model.model.").partition(".lora_")[0]
