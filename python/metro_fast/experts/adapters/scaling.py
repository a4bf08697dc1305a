"""The factor by which B A is multiplied, from the configuration of a LoRA or from its tensors."""

import math
from collections.abc import Mapping
from typing import Any

from metro_fast._shown import shown
from metro_fast.errors import FormatError
from metro_fast.experts.adapters.config_fields import brief
from metro_fast.experts.adapters.patterns import Patterns
from metro_fast.experts.adapters.roles import alphas_of, factor_of
from metro_fast.experts.adapters.tensors import RawTensor

_DEFAULT = 8
"""The r and the lora_alpha of PEFT's `LoraConfig` where adapter_config.json has none."""


class Scalings:
    """The ranks and scalings that PEFT gives to the modules of one adapter.

    Patterns are matched against the end of a module's name, by the rule of PEFT's
    `get_pattern_key`; the work of matching them is bounded for all modules together.

    Args:
        config: adapter_config.json, parsed; r and lora_alpha are 8 where it has none, as in PEFT.

    Raises:
        FormatError: If rank_pattern or alpha_pattern is not an object, or a key of it is not a
            pattern whose work can be bounded.

    Example:
        >>> scalings = Scalings({"r": 8, "lora_alpha": 16, "alpha_pattern": {"q": 4}})
        >>> scalings.rank("layer.0.q"), scalings.scaling("layer.0.q"), scalings.scaling("layer.0.v")
        (8, 0.5, 2.0)
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._patterns = {}
        for field in ("rank_pattern", "alpha_pattern"):
            given = config.get(field) or {}
            if not isinstance(given, Mapping):
                raise FormatError(f"{field} is {brief(given)}, expected an object of patterns")
            self._patterns[field] = Patterns(field, given)
        self._ranks: dict[str, int] = {}
        self._alphas: dict[str, float] = {}

    def rank(self, module: str) -> int:
        """The rank of the factors of a module, by its name in the base model.

        Raises:
            FormatError: If it is not a whole number above 0.
        """
        if module not in self._ranks:
            rank = self._value("rank_pattern", "r", module)
            if rank < 1 or rank != int(rank):
                raise FormatError(
                    f"the configuration gives {shown(module)} the rank {rank:g}, expected a whole "
                    "number above 0"
                )
            self._ranks[module] = int(rank)
        return self._ranks[module]

    def scaling(self, module: str) -> float:
        """The scaling of a module, alpha / r, or alpha / sqrt(r) with rsLoRA (arXiv 2312.03732).

        Raises:
            FormatError: If the rank or alpha is not usable.
        """
        rank = self.rank(module)
        if module not in self._alphas:
            self._alphas[module] = self._value("alpha_pattern", "lora_alpha", module)
        return self._alphas[module] / (math.sqrt(rank) if self._config.get("use_rslora") else rank)

    def _value(self, field: str, default: str, module: str) -> float:
        """The value of the first pattern that matches the module, or the one for all modules."""
        key = self._patterns[field].first(module)
        value, source = self._config.get(default, _DEFAULT), default
        if key is not None:
            value, source = self._config[field][key], f"{field} of {shown(repr(key))}"
        try:
            if (
                not isinstance(value, bool)
                and isinstance(value, int | float)
                and math.isfinite(value)
            ):
                return float(value)
        except OverflowError:  # a whole number of more than 308 digits
            pass
        raise FormatError(f"{source} is {brief(value)} in the configuration, expected a number")


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
        of_config = Scalings(config)
        for name, factor in names.items():
            rank = of_config.rank(module_of(name))
            if factor.role == "lora_A" and shapes[name][0] != rank:
                raise FormatError(
                    f"{name} has rank {shapes[name][0]}, but adapter_config.json says {rank}: the "
                    "two files are not of one adapter"
                )
        return {f.module: of_config.scaling(module_of(name)) for name, f in names.items()}
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
