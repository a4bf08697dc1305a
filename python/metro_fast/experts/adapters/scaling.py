"""The factor by which B A is multiplied, from the configuration of a LoRA or from its tensors."""

import math
import re
from collections.abc import Mapping
from typing import Any

from metro_fast.errors import FormatError
from metro_fast.experts.adapters.roles import alphas_of, factor_of
from metro_fast.experts.adapters.tensors import RawTensor

_DEFAULT = 8
"""The r and the lora_alpha of PEFT's `LoraConfig` where adapter_config.json has none."""


def lora_scaling(config: Mapping[str, Any], module: str) -> float:
    """The scaling of a module, alpha / r, or alpha / sqrt(r) with rsLoRA (arXiv 2312.03732).

    Args:
        config: adapter_config.json, parsed; r and lora_alpha are 8 where it has none, as in PEFT.
        module: The module's name in the base model; patterns are matched against its end.

    Raises:
        FormatError: If r or alpha is not a number, r is not positive, or a pattern is not a
            regular expression.

    Example:
        >>> lora_scaling({"r": 8, "lora_alpha": 16, "alpha_pattern": {"q": 4}}, "layer.0.q")
        0.5
    """
    rank = lora_rank(config, module)
    alpha = _of_pattern(config, "alpha_pattern", "lora_alpha", module)
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def lora_rank(config: Mapping[str, Any], module: str) -> int:
    """The rank that PEFT gives to the factors of a module.

    Args:
        config: adapter_config.json, parsed.
        module: The module's name in the base model.

    Raises:
        FormatError: If r is not a whole number above 0, or a pattern is not a regular expression.

    Example:
        >>> lora_rank({"r": 8, "rank_pattern": {"q": 4}}, "layer.0.q")
        4
    """
    rank = _of_pattern(config, "rank_pattern", "r", module)
    if rank < 1 or rank != int(rank):
        raise FormatError(
            f"the configuration gives {module} the rank {rank:g}, expected a whole number above 0"
        )
    return int(rank)


def module_scalings(
    shapes: Mapping[str, tuple[int, ...]],
    dense: Mapping[str, RawTensor],
    config: Mapping[str, Any] | None,
) -> dict[str, float]:
    """The factor by which each module of a LoRA multiplies B A, by module (as `factor_of` says).

    With a configuration this is what PEFT does, which reads no alpha from tensors. Without one it
    is what kohya, LyCORIS, ComfyUI and diffusers do: alpha / r of a module whose alpha is a tensor
    (`lora_unet_to_q.alpha`), and 1 for a module that has none.

    Args:
        shapes: The shapes of all factors, by name.
        dense: The tensors that are kept whole, among them the alphas.
        config: adapter_config.json, parsed, or None.

    Raises:
        FormatError: If the configuration or an alpha is not usable, or the configuration has other
            ranks than the factors.
        MetroFastError: If an alpha belongs to no module, or a module has two.

    Example:
        >>> import numpy as np
        >>> shapes = {"q.lora_down.weight": (4, 64), "q.lora_up.weight": (64, 4)}
        >>> alpha = RawTensor.of(np.float32([2.0]), "q.alpha")
        >>> module_scalings(shapes, {"q.alpha": alpha}, None)
        {'q': 0.5}
    """
    names = {name: factor for name in shapes if (factor := factor_of(name)) is not None}
    if config is not None:
        for name, factor in names.items():
            rank = lora_rank(config, module_of(name))
            if factor.role == "lora_A" and shapes[name][0] != rank:
                raise FormatError(
                    f"{name} has rank {shapes[name][0]}, but adapter_config.json says {rank}: the "
                    "two files are not of one adapter"
                )
        return {f.module: lora_scaling(config, module_of(name)) for name, f in names.items()}
    alphas = alphas_of([*names, *dense])
    found: dict[str, float] = {}
    for name, factor in names.items():
        if factor.role == "lora_A" and factor.module in alphas:
            alpha = alphas[factor.module]
            found[factor.module] = read_alpha(alpha, dense[alpha]) / shapes[name][0]
        else:
            found.setdefault(factor.module, 1.0)
    return found


def read_alpha(name: str, tensor: RawTensor) -> float:
    """The number in the alpha of a LoRA module.

    Args:
        name: Its name, for messages.
        tensor: The tensor, with one element.

    Raises:
        FormatError: If it has several elements, or its number is 0 or not finite. (kohya takes 0
            for the rank, and other readers take it for 0.)
    """
    if tensor.data.size != 1:
        raise FormatError(f"{name} has shape {tensor.shape}, but an alpha is one number")
    alpha = float(tensor.numpy().reshape(()))
    if alpha == 0 or not math.isfinite(alpha):
        raise FormatError(
            f"{name} is {alpha:g}, which readers of LoRA files take for different scales: set it "
            "to the intended number, or remove it for alpha = rank"
        )
    return alpha


def module_of(name: str) -> str:
    """The name, in the base model, of the module that a LoRA tensor belongs to.

    Example:
        >>> module_of("base_model.model.encoder.q.lora_B.weight")
        'encoder.q'
    """
    return name.removeprefix("base_model.model.").partition(".lora_")[0]


def _of_pattern(config: Mapping[str, Any], patterns: str, default: str, module: str) -> float:
    """The value of the first pattern that matches the module, or the one for all modules."""
    value, source = config.get(default, _DEFAULT), default
    # The rule of peft.utils.other.get_pattern_key: a regular expression for the end of the name.
    for key, own in (config.get(patterns) or {}).items():
        try:
            matches = re.match(rf"(.*\.)?({key})$", module)
        except re.error as error:
            raise FormatError(f"{patterns} has {key!r}, not a pattern: {error}") from error
        if matches:
            value, source = own, f"{patterns} of {key!r}"
            break
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise FormatError(f"{source} is {value!r} in the configuration, expected a number")
    return float(value)
