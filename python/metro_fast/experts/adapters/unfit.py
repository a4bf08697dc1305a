"""Tensors of which no adapter can be made: ungathered shards, wide dtypes, lone factors."""

import re
from collections.abc import Iterable, Mapping

from metro_fast._shown import shown
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.live_names import refuse_whole_model
from metro_fast.experts.adapters.tensors import RawTensor

_FACTOR = re.compile(r"(.*\.lora_(?:embedding_)?)([AB])(|\.weight)")
_GATHER = (
    "as it is when shards of DeepSpeed ZeRO-3 or FSDP are saved: gather them before save_pretrained"
)


def refuse_shards(tensors: Mapping[str, RawTensor], roles: Mapping[str, str | None]) -> None:
    """Check that tensors are whole, and an adapter's alone, as far as shapes and names say.

    ZeRO-3 leaves empty tensors, FSDP flat ones; an adapter with one of them makes an expert that
    changes nothing, or the wrong thing. Whole models may have tensors without entries.

    Args:
        tensors: The tensors of an adapter, by name.
        roles: Their roles, as `role_of` gives them.

    Raises:
        MetroFastError: Naming the first tensor that is not whole, or a weight of the base.

    Example:
        >>> import numpy as np
        >>> b = RawTensor("F32", np.zeros(0, np.float32))
        >>> refuse_shards({"q.lora_B.weight": b}, {"q.lora_B.weight": "lora_B"})
        Traceback (most recent call last):
        ...
        metro_fast._core.MetroFastError: q.lora_B.weight is empty, as it is when shards of \
DeepSpeed ZeRO-3 or FSDP are saved: gather them before save_pretrained
    """
    refuse_whole_model(tensors)
    for name, tensor in tensors.items():
        role, shape = roles[name], tensor.shape
        if 0 in shape and (role or tensor.is_float):
            raise MetroFastError(f"{name} is empty, {_GATHER}")
        if role in ("lora_A", "lora_B") and len(shape) < 2:
            raise MetroFastError(
                f"{name} has shape {shape}, expected at least two dimensions of a LoRA's factor; "
                f"it is flat {_GATHER}"
            )


def refuse_wide(
    raw: Mapping[str, RawTensor], roles: Mapping[str, str | None], whole: set[str]
) -> None:
    """Refuse a tensor of the adapter itself that would stay whole beside a ternary partner.

    Args:
        raw: The tensors of an adapter, by name.
        roles: Their roles, as `role_of` gives them.
        whole: Names that the caller keeps whole on purpose.

    Raises:
        MetroFastError: Naming the first tensor whose dtype has no trits.
    """
    for name, tensor in raw.items():
        if roles[name] and name not in whole and not tensor.is_float:
            raise MetroFastError(
                f"{name} has dtype {tensor.dtype}, of which no trits are made: convert the "
                "adapter to float32, float16 or bfloat16, or name the tensor in dense"
            )


def refuse_lone_factors(names: Iterable[str]) -> None:
    """Check that each A of a LoRA that PEFT saved has its B, and each B its A.

    Args:
        names: The names in the file.

    Raises:
        MetroFastError: Naming the first factor without its partner.

    Example:
        >>> refuse_lone_factors(["q.lora_A.weight", "q.lora_B.weight", "v.lora_A.weight"])
        Traceback (most recent call last):
        ...
        metro_fast._core.MetroFastError: v.lora_B.weight is missing beside v.lora_A.weight, so \
the file is incomplete: save the adapter again
    """
    known = set(names)
    for name in sorted(known):
        factor = _FACTOR.fullmatch(name)
        if factor is None:
            continue
        partner = factor[1] + {"A": "B", "B": "A"}[factor[2]] + factor[3]
        if partner not in known:
            raise MetroFastError(
                f"{shown(partner)} is missing beside {shown(name)}, so the file is incomplete: "
                "save the adapter again"
            )
