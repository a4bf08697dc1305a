"""What finetuning changed, split into what becomes ternary and what stays whole."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.initial import initial_checksum
from metro_fast.experts.adapters.roles import KIND_OF_ROLE, refuse_unsupported, role_of
from metro_fast.experts.adapters.tensors import RawTensor
from metro_fast.experts.adapters.tied import leave_out

KINDS = ("lora", "ia3", "prompt", "full", "other")


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
        config: The bytes of adapter_config.json, or None if it is no PEFT adapter.
    """

    kind: str
    residuals: dict[str, Residual]
    dense: dict[str, RawTensor]
    initial_crc32c: int | None
    config: bytes | None = None


def task_vector(
    state: Mapping[str, Any],
    *,
    kind: str | None = None,
    initial: Mapping[str, Any] | None = None,
    dense: Sequence[str] = (),
) -> TaskVector:
    """Split a state dict by its names.

    Names that adapters have (`lora_A`, `lora_down`, `ia3_l`, `prompt_embeddings`) tell their role;
    everything else in such a dict is a head or a module that was trained whole, and stays dense. A
    dict without any such name needs `kind`, which then holds for every float tensor.

    Of tied tensors (see `tied_groups`) one name is kept, which is one that `initial` has; decoding
    with `initial` gives all names again that are tied in it.

    Args:
        state: Name to numpy array, torch tensor or `RawTensor`.
        kind: lora, ia3, prompt, full or other; None takes it from the names.
        initial: Values to take off first, by name: the pretrained weights of a fully finetuned
            model (then all are needed), or a LoRA's A as it was initialized. Without it, IA3
            vectors start at 1 and everything else at 0.
        dense: Names of tensors to keep whole, or patterns of names with `*`: a head that the base
            does not have, norms and biases.

    Returns:
        The kind, what becomes ternary, and what stays dense.

    Warns:
        UserWarning: If tied names cannot be restored, since there is no `initial`.

    Raises:
        TypeError: If a tensor has a dtype that adapters do not have, or a name is not a string.
        MetroFastError: If there is nothing to compress, the kind cannot be told or is unknown,
            a pattern of `dense` fits no name, or initial values do not fit.

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
        check_name(name)
    roles = {name: role_of(name, kind) for name in sorted(state)}
    told = {KIND_OF_ROLE[role] for role in roles.values() if role is not None}
    left: dict[str, str] = {}
    if kind in ("full", "other") or (kind in ("ia3", "prompt") and not told):
        roles = dict.fromkeys(roles, kind)
        told = {kind}
        left = leave_out(state, initial)
        _warn_of_ties(left, initial)
    if not told:
        some = ", ".join(list(roles)[:3]) or "none"
        raise MetroFastError(
            f"no tensor has a name of LoRA, IA3 or prompts (names: {some}, ...): "
            "say what they are with kind='full', 'ia3', 'prompt' or 'other'"
        )
    if kind is not None and told != {kind}:
        raise MetroFastError(f"kind is {kind!r}, but the names are those of {', '.join(told)}")
    if len(told) > 1:
        raise MetroFastError(f"the names are those of {', '.join(sorted(told))}: expected one kind")
    (kind,) = told
    raw = {name: RawTensor.of(state[name], name) for name in roles if name not in left}
    whole = chosen(raw, dense)
    ternary = {
        name: role
        for name, role in roles.items()
        if role and name in raw and name not in whole and raw[name].is_float
    }
    if not ternary:
        raise MetroFastError("no float32, float16 or bfloat16 tensor to compress")
    given = _given(raw, left, ternary, kind, initial)
    residuals = {
        name: _residual(raw[name], role, given.get(name)) for name, role in ternary.items()
    }
    kept = {name: tensor for name, tensor in raw.items() if name not in ternary}
    return TaskVector(kind, residuals, kept, initial_checksum(given) if given else None)


def check_name(name: str) -> None:
    """Refuse names that no file can spell, and tensors of adapters that cannot be compressed.

    Raises:
        MetroFastError: Naming the tensor.
    """
    if not name.isprintable():
        raise MetroFastError(f"the name {name!r} has characters that no file can spell")
    refuse_unsupported(name)


def _residual(tensor: RawTensor, role: str, given: NDArray[np.float32] | None) -> Residual:
    values = tensor.float32()
    if given is not None:
        return Residual(values - given, tensor.dtype, role, "given")
    if role == "ia3":
        return Residual(values - np.float32(1), tensor.dtype, role, "one")
    return Residual(values, tensor.dtype, role, "zero")


def _warn_of_ties(left: Mapping[str, str], initial: Mapping[str, Any] | None) -> None:
    if left and initial is None:
        both = "; ".join(f"{name} is {kept}" for name, kept in left.items())
        warnings.warn(
            f"tied tensors are kept once ({both}): a model that ties them takes the one for all",
            stacklevel=4,
        )


def chosen(raw: Mapping[str, Any], patterns: Sequence[str]) -> set[str]:
    """Names that fit one of the patterns.

    Raises:
        TypeError: If the patterns are one string.
        MetroFastError: If a pattern fits no name.

    Example:
        >>> chosen({"head.weight": 0, "q.weight": 0}, ["head.*"])
        {'head.weight'}
    """
    if isinstance(patterns, str):
        raise TypeError(f"dense is the string {patterns!r}, expected a sequence of names")
    found: set[str] = set()
    for pattern in patterns:
        fitting = {name for name in raw if fnmatchcase(name, pattern)}
        if not fitting:
            some = ", ".join(list(raw)[:3])
            raise MetroFastError(f"dense has {pattern!r}, which no name fits (names: {some}, ...)")
        found |= fitting
    return found


def _given(
    raw: Mapping[str, RawTensor],
    left: Mapping[str, str],
    ternary: Mapping[str, str],
    kind: str,
    initial: Mapping[str, Any] | None,
) -> dict[str, NDArray[np.float32]]:
    if initial is None:
        return {}
    missing = [name for name in ternary if name not in initial]
    unknown = [name for name in initial if name not in raw and name not in left]
    if kind == "full" and missing:
        raise MetroFastError(
            f"initial has no {missing[0]}: a full residual needs every tensor, except those that "
            f"dense= keeps whole"
        )
    if kind != "full" and unknown:
        raise MetroFastError(f"initial has {unknown[0]}, which the source has not")
    given = {
        name: RawTensor.of(initial[name], name).float32() for name in ternary if name in initial
    }
    for name, values in given.items():
        if values.shape != raw[name].shape:
            raise MetroFastError(
                f"initial {name} has shape {values.shape}, expected {raw[name].shape}"
            )
    return given
