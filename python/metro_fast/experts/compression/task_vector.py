"""Task vectors: the changes by finetuning, split into tensors to make ternary and to keep whole."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from metro_fast import _core
from metro_fast._shown import quoted, shown
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.factors import is_factor
from metro_fast.experts.adapters.initial import (
    Initial,
    constant_of,
    initial_checksum,
    initial_of,
    read_given,
)
from metro_fast.experts.adapters.limits import check_tensors
from metro_fast.experts.adapters.roles import KIND_OF_ROLE, refuse_unsupported, role_of
from metro_fast.experts.adapters.tensors import RawTensor, StateDict
from metro_fast.experts.adapters.tied import leave_out
from metro_fast.experts.adapters.unfit import refuse_shards, refuse_wide

Kind: TypeAlias = Literal["lora", "ia3", "prompt", "full", "other"]
KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True)
class Residual:
    """A tensor that becomes ternary.

    Attributes:
        values: float32, the tensor minus its initial value.
        dtype: The dtype of the tensor, as safetensors names it.
        role: lora_A, lora_B, ia3, prompt, full or other.
        initial: The initial value that was subtracted: `"zero"`, `"one"` or `"given"`.

    Example:
        >>> Residual(np.zeros((2, 3), np.float32), "F16", "lora_A", "zero")
        Residual(F16, shape=(2, 3), role='lora_A', initial='zero')
    """

    values: NDArray[np.float32]
    dtype: str
    role: str
    initial: Initial

    def __repr__(self) -> str:
        shape = self.values.shape
        return (
            f"Residual({self.dtype}, shape={shape}, role={self.role!r}, initial={self.initial!r})"
        )


@dataclass(frozen=True)
class TaskVector:
    """Residuals and dense tensors, each in ascending order of names.

    Attributes:
        kind: lora, ia3, prompt, full or other.
        residuals: The tensors to make ternary.
        dense: The tensors that stay whole: heads, `modules_to_save`, integers.
        initial_crc32c: Checksum of the given initial values, or None.
        config: The bytes of adapter_config.json, or None if it is not a PEFT adapter.
        metadata: What the source's safetensors file carries beside its tensors; see `StateDict`.
        starts: float32, the given initial values of a LoRA's factors, by name: the update is a
            product, and depends on them.

    Example:
        >>> task_vector({"layer.ia3_l": np.array([1.5, 1.0], np.float32)})
        TaskVector(kind='ia3', 1 residuals with 2 entries, 0 dense tensors)
    """

    kind: str
    residuals: dict[str, Residual]
    dense: dict[str, RawTensor]
    initial_crc32c: int | None
    config: bytes | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    starts: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def __repr__(self) -> str:
        entries = sum(residual.values.size for residual in self.residuals.values())
        return (
            f"TaskVector(kind={self.kind!r}, {len(self.residuals)} residuals with {entries:,} "
            f"entries, {len(self.dense)} dense tensors)"
        )


def task_vector(
    state: Mapping[str, Any],
    *,
    kind: str | None = None,
    initial: Mapping[str, Any] | None = None,
    dense: Sequence[str] = (),
) -> TaskVector:
    """Split a state dict by its names.

    The names in adapters (`lora_A`, `lora_down`, `ia3_l`, `prompt_embeddings`) give the role of a
    tensor; everything else in such a dict is a head or a module that was trained whole, and stays
    dense. A dict without any such name needs `kind`, which then holds for every float tensor.

    Tied tensors (see `tied_groups`) are kept under one name, which is one that `initial` has;
    decoding with `initial` restores all names that are tied in it.

    Args:
        state: Name to numpy array, torch tensor or `RawTensor`.
        kind: lora, ia3, prompt, full or other; None takes it from the names.
        initial: Values to subtract first, by name: the pretrained weights of a fully finetuned
            model (all of them are needed then), or the initial A of a LoRA. Without it, the initial
            values are 1 for IA3 vectors and 0 for everything else.
        dense: Names of tensors to keep whole, or patterns of names with `*`: a head that the base
            does not have, norms and biases.

    Returns:
        The kind, the residuals, and the tensors that stay dense.

    Warns:
        UserWarning: If tied names cannot be restored, since `initial` is not given.

    Raises:
        TypeError: If a tensor has a dtype that adapters do not have, or a name is not a string.
        MetroFastError: If there is nothing to compress, the kind is unknown or the names do not say
            it, a pattern of `dense` matches no name, or initial values do not fit.

    Example:
        >>> vector = task_vector({"layer.ia3_l": np.array([1.5, 1.0], np.float32)})
        >>> vector.residuals["layer.ia3_l"].values
        array([0.5, 0. ], dtype=float32)
    """
    if kind is not None and kind not in KINDS:
        raise MetroFastError(f"kind is {quoted(kind)}, expected one of {', '.join(KINDS)}")
    if not all(isinstance(name, str) for name in state):
        raise TypeError("state dict names are not all strings")
    for name in state:
        check_name(name)
    roles = {name: role_of(name, kind) for name in sorted(state)}
    kinds = {KIND_OF_ROLE[role] for role in roles.values() if role is not None}
    left: dict[str, str] = {}
    if kind in ("full", "other") or (kind in ("ia3", "prompt") and not kinds):
        # The kind holds for every tensor, whatever its name.
        roles = dict.fromkeys(roles, kind)
        left = leave_out(state, initial)
        _warn_of_ties(left, initial)
    else:
        kind = _only_kind(kinds, kind, list(roles))
    raw = {name: RawTensor.of(state[name], name) for name in roles if name not in left}
    whole = chosen(raw, dense)
    if kind in KIND_OF_ROLE.values():
        refuse_shards(raw, roles)
        refuse_wide(raw, roles, whole)
    ternary = {
        name: role
        for name, role in roles.items()
        if role and name in raw and name not in whole and raw[name].is_float
    }
    if not ternary:
        raise MetroFastError(
            "there is no float32, float16 or bfloat16 tensor to compress: name fewer in dense, or "
            "convert the tensors"
        )
    given = _given(raw, left, ternary, kind, initial)
    residuals = {
        name: _residual(raw[name], role, given.get(name)) for name, role in ternary.items()
    }
    kept = {name: tensor for name, tensor in raw.items() if name not in ternary}
    checksum = initial_checksum(given) if given else None
    starts = starts_of({name: tensor.shape for name, tensor in raw.items()}, initial or {})
    return TaskVector(
        kind,
        residuals,
        kept,
        checksum,
        metadata=metadata_of(state),
        starts=starts if kind == "lora" else {},
    )


def metadata_of(state: Mapping[str, Any]) -> dict[str, str]:
    """The metadata of a file's state; {} for any other state dict.

    Raises:
        FormatError: If it is more than an expert can keep.
    """
    if not isinstance(state, StateDict):
        return {}
    _core.check_metadata(state.metadata)
    return dict(state.metadata)


def starts_of(
    shapes: Mapping[str, tuple[int, ...]], initial: Mapping[str, Any]
) -> dict[str, NDArray[np.float32]]:
    """The initial values of a LoRA's factors, whether they are ternary or kept whole.

    Raises:
        TypeError: If a value is not a tensor of a plain dtype.
        MetroFastError: If a shape differs.
    """
    return read_given(initial, {n: s for n, s in shapes.items() if n in initial and is_factor(n)})


def _only_kind(kinds: set[str], kind: str | None, names: Sequence[str]) -> str:
    """The one kind of adapter that the names belong to."""
    if not kinds:
        some = ", ".join(map(shown, names[:3])) or "none"
        like = (k for k in ("lora", "ia3") if any(role_of(name, k) for name in names))
        hint = next((f"; these look like {kind}" for kind in like), "")
        raise MetroFastError(
            f"no tensor has a name of LoRA, IA3 or prompts (names: {some}, ...): give kind, one of "
            f"{', '.join(KINDS)}{hint}"
        )
    if kind is not None and kinds != {kind}:
        raise MetroFastError(f"kind is {quoted(kind)}, but the names are of {', '.join(kinds)}")
    if len(kinds) > 1:
        raise MetroFastError(
            f"the names are those of {', '.join(sorted(kinds))}: expected one kind of adapter"
        )
    return next(iter(kinds))


def check_name(name: str) -> None:
    """Refuse names that cannot be printed, and tensors of adapters that cannot be compressed.

    Raises:
        MetroFastError: Naming the tensor; a `FormatError` if it cannot be printed or is too long.
    """
    check_tensors([(name, ())])
    refuse_unsupported(name)


def _residual(tensor: RawTensor, role: str, given: NDArray[np.float32] | None) -> Residual:
    initial = initial_of(role, given=given is not None)
    values = tensor.float32()
    if given is not None:
        values = values - given
    elif initial != "zero":
        values = values - constant_of(initial)
    return Residual(values, tensor.dtype, role, initial)


def _warn_of_ties(left: Mapping[str, str], initial: Mapping[str, Any] | None) -> None:
    if left and initial is None:
        both = "; ".join(f"{name} is {kept}" for name, kept in left.items())
        warnings.warn(
            f"tied tensors are kept once ({both}): a model that ties them uses that one for all",
            stacklevel=4,
        )


def chosen(raw: Mapping[str, Any], patterns: Sequence[str]) -> set[str]:
    """Names that match one of the patterns.

    Raises:
        TypeError: If the patterns are one string.
        MetroFastError: If a pattern matches no name.

    Example:
        >>> chosen({"head.weight": 0, "q.weight": 0}, ["head.*"])
        {'head.weight'}
    """
    if isinstance(patterns, str):
        raise TypeError(f"dense is the string {quoted(patterns)}, expected a sequence of names")
    found: set[str] = set()
    for pattern in patterns:
        matching = {name for name in raw if fnmatchcase(name, pattern)}
        if not matching:
            some = ", ".join(list(raw)[:3])
            raise MetroFastError(
                f"dense has {quoted(pattern)}, which matches no name (names: {some}, ...)"
            )
        found |= matching
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
            f"initial does not have {missing[0]}: a full residual needs every tensor, except those "
            "that dense= keeps whole"
        )
    if kind != "full" and unknown:
        raise MetroFastError(f"initial has {unknown[0]}, which the source does not have")
    shapes = {name: raw[name].shape for name in ternary if name in initial}
    return read_given(initial, shapes)
