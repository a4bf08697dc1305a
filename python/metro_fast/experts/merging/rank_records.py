"""Metadata that states ranks, written again for a merge that has others."""

import json
import math
from collections.abc import Mapping
from typing import Any, TypeGuard

from metro_fast._json import parse_json
from metro_fast.experts.compression.task_vector import Residual
from metro_fast.experts.merging.metadata import common_metadata

_DIFFUSERS = "lora_adapter_metadata"
"""Key of the LoraConfig that diffusers writes, whose fields may have a prefix (`unet.r`)."""


def metadata_of_updates(
    experts: Mapping[str, Mapping[str, str]], residuals: Mapping[str, Residual]
) -> dict[str, str]:
    """The metadata of a merge by updates, whose ranks are not those of the experts.

    Two layouts that state ranks are known, and get those of the result: diffusers' configuration,
    whose scaling stays as it was, and the rank of each layer in files of cloneofsimo.

    Args:
        experts: The metadata of the experts, by the names that messages give them.
        residuals: The tensors of the result, by name.

    Raises:
        MetroFastError: If there is other metadata from which readers may take ranks, or a
            configuration has ranks or alphas of single modules.
    """
    rest = {name: dict(metadata) for name, metadata in experts.items()}
    stated: dict[str, str] = {}
    ranks = {tensor.values.shape[0] for tensor in residuals.values() if tensor.role == "lora_A"}
    texts = {metadata.get(_DIFFUSERS) for metadata in experts.values()}
    if len(texts) == 1 and len(ranks) == 1 and (text := texts.pop()) is not None:
        config = _with_rank(parse_json(text, _DIFFUSERS), next(iter(ranks)))
        if config is not None:
            stated[_DIFFUSERS] = json.dumps(config, indent=2, sort_keys=True)
            for metadata in rest.values():
                del metadata[_DIFFUSERS]
    by_layer = all(any(key.endswith(":rank") for key in m) for m in experts.values())
    if by_layer:
        # The other entries of such a file are its target modules, and the names of embeddings.
        rest = {n: {k: m[k] for k in m if not k.endswith(":rank")} for n, m in rest.items()}
        for name, tensor in residuals.items():
            if name.endswith(":down"):
                stated[f"{name.removesuffix(':down')}:rank"] = str(tensor.values.shape[0])
    return common_metadata(rest, same_ranks=by_layer) | stated


def _with_rank(config: Any, rank: int) -> dict[str, Any] | None:
    """A LoraConfig with another rank and the scaling of before; None if it has no single one."""
    if not isinstance(config, dict):
        return None
    found = dict(config)
    prefixes = [key.removesuffix("r") for key in config if key == "r" or key.endswith(".r")]
    for prefix in prefixes:
        old, alpha = config[f"{prefix}r"], config.get(f"{prefix}lora_alpha")
        if not (_is_positive(old) and _is_positive(alpha)):
            return None
        if any(config.get(f"{prefix}{each}_pattern") for each in ("rank", "alpha")):
            return None
        rooted = bool(config.get(f"{prefix}use_rslora"))
        scaling = alpha / (math.sqrt(old) if rooted else old)
        found[f"{prefix}r"] = rank
        new = scaling * (math.sqrt(rank) if rooted else rank)
        found[f"{prefix}lora_alpha"] = int(new) if new.is_integer() else new
    return found if prefixes else None


def _is_positive(value: Any) -> TypeGuard[float]:
    return type(value) in (int, float) and 0 < value < math.inf
