"""The tensors and the configuration of an expert as every server of LoRA reads them alike.

Of adapter_config.json, servers read r and lora_alpha, some of them use_rslora, and no patterns. So
the result has one rank and one scaling for all modules: factors are padded with zeros, and where
modules are scaled differently, their scalings are multiplied into B.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.peft_folder import CONFIG
from metro_fast.experts.adapters.roles import role_of
from metro_fast.experts.adapters.scaling import Scalings, module_of
from metro_fast.experts.adapters.tensors import RawTensor, dtype_name
from metro_fast.experts.expert import Expert
from metro_fast.experts.plain.servable import check_servable

_LEAST_RANK, _STEP = 8, 16
"""LoRAX and TGI pad a rank up to 8, or to a multiple of 16, and then divide alpha by the padded
rank in all kinds of modules but the first; at these ranks they have nothing to pad."""

_PLAIN = {
    "alpha_pattern": {},
    "rank_pattern": {},
    "use_rslora": False,
    # How training began would only make PEFT do it again when it loads.
    "init_lora_weights": True,
    "corda_config": None,
    "eva_config": None,
    "loftq_config": {},
    "lora_ga_config": None,
    "megatron_config": None,
    "velora_config": None,
    # vLLM refuses any name of a head; the tensors say that there is not one.
    "modules_to_save": None,
}


class Plan(NamedTuple):
    """How an expert is written for servers.

    Attributes:
        config: The bytes of adapter_config.json.
        rank: The rank of all modules.
        factors: The factor by which B of each module is multiplied.
    """

    config: bytes
    rank: int
    factors: dict[str, float]


def plan(name: str, expert: Expert) -> Plan:
    """Decide how an expert is written for servers, without decoding it.

    Args:
        name: The expert's name, for messages.
        expert: The expert.

    Raises:
        FormatError: If the configuration has no usable r or lora_alpha.
        MetroFastError: If servers would not add what PEFT adds, or a rank in the configuration is
            not that of the tensors.
    """
    config = check_servable(name, expert)
    ranks, scalings = _ranks_and_scalings(expert, config)
    rank = _padded(max(ranks.values()))
    alpha: int = rank
    factors = scalings
    common = set(scalings.values())
    if len(common) == 1 and (whole := next(iter(common)) * rank).is_integer():
        alpha, factors = int(whole), dict.fromkeys(scalings, 1.0)
    fields = dict(config) | _PLAIN | {"r": rank, "lora_alpha": alpha}
    if not isinstance(fields.get("target_modules"), list):
        # Servers do not read patterns. A whole name only means the module that has it.
        fields["target_modules"] = sorted(scalings)
    return Plan(json.dumps(fields, indent=2, sort_keys=True).encode(), rank, factors)


def served(expert: Expert, planned: Plan, dtype: Any = None) -> dict[str, RawTensor]:
    """Decode an expert into tensors that servers read as PEFT reads the expert.

    The products B A, times lora_alpha / r, are those of PEFT: exactly, unless modules are scaled
    differently or with rsLoRA. Then B is rounded once more, to its dtype.

    Args:
        expert: The expert.
        planned: What `plan` returned for it.
        dtype: float32, float16 or bfloat16 for all tensors; their own by default.

    Raises:
        TypeError: If the dtype is not a float.
        FormatError: If a stream is damaged.
        MetroFastError: If a scaled B does not fit the dtype.
    """
    # A B that is to be scaled is read in its own dtype, as PEFT reads it, and rounded once.
    own = expert.raw() if any(factor != 1 for factor in planned.factors.values()) else {}
    tensors = expert.raw(dtype)
    for name, tensor in tensors.items():
        is_b = role_of(name) == "lora_B"
        factor = planned.factors[module_of(name)] if is_b else 1.0
        if factor != 1:
            to = own[name].dtype if dtype is None else dtype_name(dtype)
            tensor = _scaled(name, own[name], factor, to)
        tensors[name] = _widened(tensor, 1 if is_b else 0, planned.rank)
    return tensors


def _ranks_and_scalings(
    expert: Expert, config: Mapping[str, Any]
) -> tuple[dict[str, int], dict[str, float]]:
    """The rank of each tensor, by name, and the scaling of each module."""
    ranks: dict[str, int] = {}
    scalings: dict[str, float] = {}
    of_config = Scalings(config)
    for tensor in expert.manifest.tensors:
        module = module_of(tensor.name)
        rank = tensor.shape[0 if role_of(tensor.name) == "lora_A" else 1]
        if rank != of_config.rank(module):
            raise MetroFastError(
                f"{tensor.name} has rank {rank}, but {CONFIG} says {of_config.rank(module)}: "
                "the two files are not of one adapter"
            )
        ranks[tensor.name] = rank
        scalings[module] = of_config.scaling(module)
    return ranks, scalings


def _padded(rank: int) -> int:
    """The rank to which LoRAX and TGI pad, on one device."""
    return _LEAST_RANK if rank <= _LEAST_RANK else -(-rank // _STEP) * _STEP


def _scaled(name: str, tensor: RawTensor, factor: float, dtype: str) -> RawTensor:
    # One rounding to float32 after the product, and one to the dtype.
    values = (tensor.float32().astype(np.float64) * factor).astype(np.float32)
    with np.errstate(over="ignore"):
        result = RawTensor.rounded(values, dtype)
    if not np.isfinite(result.float32()).all():
        raise MetroFastError(
            f"{name} times its scaling {factor:g} does not fit {dtype}: choose bfloat16 or float32"
        )
    return result


def _widened(tensor: RawTensor, axis: int, rank: int) -> RawTensor:
    """A factor with zeros up to a rank."""
    missing = rank - tensor.shape[axis]
    if not missing:
        return tensor
    pads = [(0, 0)] * len(tensor.shape)
    pads[axis] = (0, missing)
    return RawTensor(tensor.dtype, np.pad(tensor.data, pads))
