"""What finetuning changed, split into what becomes ternary and what stays whole."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metro_fast import _core
from metro_fast.errors import MetroFastError
from metro_fast.experts.tensors import RawTensor

KINDS = ("lora", "ia3", "prompt", "full", "other")

_ROLES = (
    ("lora_A", re.compile(r"\.lora_(embedding_)?A(\.|$)")),
    ("lora_B", re.compile(r"\.lora_(embedding_)?B(\.|$)")),
    ("ia3", re.compile(r"\.ia3_l(\.|$)")),
    ("prompt", re.compile(r"(^|\.)prompt_embeddings(\.|$)")),
)
_KIND_OF_ROLE = {"lora_A": "lora", "lora_B": "lora", "ia3": "ia3", "prompt": "prompt"}
_REFUSED = {
    "lora_magnitude_vector": "DoRA magnitude vectors",
    "lora_variant": "variants of LoRA",
    "vera_lambda": "VeRA",
    "trainable_tokens": "trainable tokens",
}


@dataclass(frozen=True)
class Residual:
    """A tensor that becomes ternary.

    Attributes:
        values: float32, the tensor minus its initial value.
        dtype: Its own dtype, as safetensors names it.
        role: lora_A, lora_B, ia3, prompt, full or other.
        initial: What was taken off: `"zero"`, `"one"` or `"given"`.
    """

    values: NDArray[np.float32]
    dtype: str
    role: str
    initial: str


@dataclass(frozen=True)
class TaskVector:
    """Residuals and dense tensors, each in ascending order of names.

    Attributes:
        kind: lora, ia3, prompt, full or other.
        residuals: What becomes ternary.
        dense: What stays whole: heads, `modules_to_save`, integers.
        initial_crc32c: Checksum of the given initial values, or None.
    """

    kind: str
    residuals: dict[str, Residual]
    dense: dict[str, RawTensor]
    initial_crc32c: int | None


def role_of(name: str) -> str | None:
    """The role that a PEFT name tells, or None.

    Example:
        >>> role_of("base_model.model.encoder.block.0.layer.0.SelfAttention.q.lora_A.weight")
        'lora_A'
    """
    return next((role for role, pattern in _ROLES if pattern.search(name)), None)


def task_vector(
    state: Mapping[str, Any],
    *,
    kind: str | None = None,
    initial: Mapping[str, Any] | None = None,
) -> TaskVector:
    """Split a state dict by its names.

    Names that PEFT gives (`lora_A`, `ia3_l`, `prompt_embeddings`) tell their role; everything else
    in such a dict is a head or a module that was trained whole, and stays dense. A dict without
    any such name needs `kind`, which then holds for every float tensor.

    Args:
        state: Name to numpy array, torch tensor or `RawTensor`.
        kind: lora, ia3, prompt, full or other; None takes it from the names.
        initial: Values to take off first, by name: the pretrained weights of a fully finetuned
            model (then all are needed), or a LoRA's A as it was initialized. Without it, IA3
            vectors start at 1 and everything else at 0.

    Returns:
        The kind, what becomes ternary, and what stays dense.

    Raises:
        TypeError: If a tensor has a dtype that adapters do not have, or a name is not a string.
        MetroFastError: If there is nothing to compress, the kind cannot be told or is unknown,
            two tensors share memory, or initial values do not fit.

    Example:
        >>> vector = task_vector({"layer.ia3_l": np.array([1.5, 1.0], np.float32)})
        >>> vector.residuals["layer.ia3_l"].values
        array([0.5, 0. ], dtype=float32)
    """
    if kind is not None and kind not in KINDS:
        raise MetroFastError(f"kind is {kind!r}, expected one of {', '.join(KINDS)}")
    if not all(isinstance(name, str) for name in state):
        raise TypeError("state dict names are not all strings")
    for name in state:
        if not name.isprintable():
            raise MetroFastError(f"the name {name!r} has characters that no file can spell")
    raw = {name: _raw(state[name], name) for name in sorted(state)}
    _refuse_unsupported(raw)
    roles = {name: role_of(name) for name in raw}
    told = {_KIND_OF_ROLE[role] for role in roles.values() if role is not None}
    if kind in ("full", "other") or (kind in ("ia3", "prompt") and not told):
        roles = dict.fromkeys(raw, kind)
        told = {kind}
        _refuse_shared_memory(raw)
    if not told:
        some = ", ".join(list(raw)[:3]) or "none"
        raise MetroFastError(
            f"no tensor has a name that PEFT gives to LoRA, IA3 or prompts (names: {some}, ...): "
            "say what they are with kind='full', 'ia3', 'prompt' or 'other'"
        )
    if kind is not None and told != {kind}:
        raise MetroFastError(f"kind is {kind!r}, but the names are those of {', '.join(told)}")
    if len(told) > 1:
        raise MetroFastError(f"the names are those of {', '.join(sorted(told))}: expected one kind")
    (kind,) = told
    ternary = {name: role for name, role in roles.items() if role and raw[name].is_float}
    if not ternary:
        raise MetroFastError("no float32, float16 or bfloat16 tensor to compress")
    given = _given(raw, ternary, kind, initial)
    residuals = {
        name: _residual(raw[name], role, given.get(name)) for name, role in ternary.items()
    }
    dense = {name: tensor for name, tensor in raw.items() if name not in ternary}
    return TaskVector(kind, residuals, dense, initial_checksum(given) if given else None)


def initial_checksum(given: Mapping[str, NDArray[np.float32]]) -> int:
    """CRC32C of given initial values, in ascending order of names."""
    flat = [given[name].reshape(-1) for name in sorted(given)]
    return _core.crc32c(np.concatenate(flat).view(np.uint8))


def _raw(tensor: Any, name: str) -> RawTensor:
    return tensor if isinstance(tensor, RawTensor) else RawTensor.of(tensor, name)


def _residual(tensor: RawTensor, role: str, given: NDArray[np.float32] | None) -> Residual:
    values = tensor.float32()
    if given is not None:
        return Residual(values - given, tensor.dtype, role, "given")
    if role == "ia3":
        return Residual(values - np.float32(1), tensor.dtype, role, "one")
    return Residual(values, tensor.dtype, role, "zero")


def _given(
    raw: Mapping[str, RawTensor],
    ternary: Mapping[str, str],
    kind: str,
    initial: Mapping[str, Any] | None,
) -> dict[str, NDArray[np.float32]]:
    if initial is None:
        return {}
    missing = [name for name in ternary if name not in initial]
    unknown = [name for name in initial if name not in raw]
    if kind == "full" and missing:
        raise MetroFastError(f"initial has no {missing[0]}: a full residual needs every tensor")
    if kind != "full" and unknown:
        raise MetroFastError(f"initial has {unknown[0]}, which the source has not")
    given = {name: _raw(initial[name], name).float32() for name in ternary if name in initial}
    for name, values in given.items():
        if values.shape != raw[name].shape:
            raise MetroFastError(
                f"initial {name} has shape {values.shape}, expected {raw[name].shape}"
            )
    return given


def _refuse_unsupported(raw: Mapping[str, RawTensor]) -> None:
    for name in raw:
        for part, what in _REFUSED.items():
            if part in name:
                raise MetroFastError(f"{name}: {what} cannot be compressed, only plain LoRA can")


def _refuse_shared_memory(raw: Mapping[str, RawTensor]) -> None:
    seen: dict[tuple[int, int], str] = {}
    for name, tensor in raw.items():
        place = (tensor.data.__array_interface__["data"][0], tensor.data.nbytes)
        if tensor.data.size and place in seen:
            raise MetroFastError(
                f"{name} and {seen[place]} are one tensor (tied weights): leave one of them out"
            )
        seen[place] = name
