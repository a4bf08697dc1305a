"""Tensors of which no adapter can be made: shards that nobody gathered, and wide dtypes."""

from collections.abc import Mapping

from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.tensors import RawTensor

_GATHER = (
    "as it is when shards of DeepSpeed ZeRO-3 or FSDP are saved: gather them before save_pretrained"
)


def refuse_shards(tensors: Mapping[str, RawTensor], roles: Mapping[str, str | None]) -> None:
    """Check that tensors are whole, as far as their shapes and the roles of their names say.

    ZeRO-3 leaves empty tensors, FSDP flat ones; an adapter with one of them makes an expert that
    changes nothing, or the wrong thing. Whole models may have tensors without entries.

    Args:
        tensors: The tensors of an adapter, by name.
        roles: Their roles, as `role_of` gives them.

    Raises:
        MetroFastError: Naming the first tensor that is not whole.

    Example:
        >>> import numpy as np
        >>> b = RawTensor("F32", np.zeros(0, np.float32))
        >>> refuse_shards({"q.lora_B.weight": b}, {"q.lora_B.weight": "lora_B"})
        Traceback (most recent call last):
        ...
        metro_fast._core.MetroFastError: q.lora_B.weight is empty, as it is when shards of \
DeepSpeed ZeRO-3 or FSDP are saved: gather them before save_pretrained
    """
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
