"""Tied tensors: one matrix under several names, as models have it for embeddings and heads."""

import re
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

_MAY_BE_TIED = re.compile(
    r"(^|\.)(shared|embed_tokens|wte|tok_embeddings|word_embeddings|embed_in|embed_out"
    r"|lm_head(\.decoder)?|predictions\.decoder|generator_lm_head|proj_out|output_projection)"
    r"\.weight$"
)
"""Names of transformers' embeddings and heads. A state dict whose tensors were cast or cloned has
equal copies of a tied matrix; under these names equal matrices are taken to be one."""


def may_be_tied(name: str) -> bool:
    """Whether a name is that of an embedding or a head.

    Example:
        >>> may_be_tied("model.embed_tokens.weight"), may_be_tied("q.weight")
        (True, False)
    """
    return _MAY_BE_TIED.search(name) is not None


def tied_groups(state: Mapping[str, Any]) -> list[list[str]]:
    """Groups of two or more names of the same tensor, each in ascending order.

    Tensors are tied if they have one storage (address, dtype, shape, strides). Matrices with equal
    bytes are tied too if all their names are those of embeddings or heads.

    Args:
        state: Name to numpy array, torch tensor, or anything with such a `data`.

    Example:
        >>> w = np.ones((2, 3), np.float32)
        >>> tied_groups({"a": w, "b": w, "c": w.copy()})
        [['a', 'b']]
        >>> tied_groups({"shared.weight": w, "lm_head.weight": w.copy(), "c": w.copy()})
        [['lm_head.weight', 'shared.weight']]
    """
    groups: list[list[str]] = []
    place_of: dict[Any, list[str]] = {}
    for name in sorted(state):
        place = _place(state[name])
        if place is not None:
            place_of.setdefault(place, []).append(name)
    for names in place_of.values():
        embeddings = all(may_be_tied(name) for name in names)
        twin = next((g for g in groups if embeddings and _equal(state, g[0], names[0])), None)
        if twin is None:
            groups.append(names)
        else:
            twin.extend(names)
    return sorted(sorted(group) for group in groups if len(group) > 1)


def _place(tensor: Any) -> tuple[Any, ...] | None:
    """The address and layout of a tensor; None if it is empty."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(tensor, torch.Tensor):
        if tensor.is_meta or tensor.layout != torch.strided or tensor.numel() == 0:
            return None
        layout = tuple(tensor.shape), tensor.stride()
        return str(tensor.device), tensor.data_ptr(), str(tensor.dtype), *layout
    array = tensor if isinstance(tensor, np.ndarray) else getattr(tensor, "data", None)
    if not isinstance(array, np.ndarray) or array.size == 0:
        return None
    return array.ctypes.data, str(array.dtype), array.shape, array.strides


def _equal(state: Mapping[str, Any], one: str, other: str) -> bool:
    if not (may_be_tied(one) and may_be_tied(other)):
        return False
    a, b = state[one], state[other]
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        alike = a.dtype == b.dtype and a.device == b.device and a.ndim == 2
        return bool(alike and torch.equal(a, b))
    x, y = (t if isinstance(t, np.ndarray) else getattr(t, "data", None) for t in (a, b))
    if not (isinstance(x, np.ndarray) and isinstance(y, np.ndarray)):
        return False
    dtypes = getattr(a, "dtype", None) == getattr(b, "dtype", None)
    return bool(dtypes and x.dtype == y.dtype and x.ndim == 2 and np.array_equal(x, y))


def leave_out(state: Mapping[str, Any], initial: Mapping[str, Any] | None) -> dict[str, str]:
    """Names to leave out of a state dict, with the name under which each tensor is kept.

    A tied group is kept under its first name in `initial`, or else under its first name. Tensors
    that are not tied in `initial` have residuals of their own and are not left out.

    Example:
        >>> w = np.ones((2, 3), np.float32)
        >>> leave_out({"embed": w, "head": w}, {"head": w - 1})
        {'embed': 'head'}
        >>> leave_out({"embed": w, "head": w}, {"head": w - 1, "embed": w - 2})
        {}
    """
    also = [] if initial is None else tied_groups(initial)
    left: dict[str, str] = {}
    for group in tied_groups(state):
        known = [name for name in group if initial is not None and name in initial]
        if len(known) > 1 and not any(set(known) <= set(other) for other in also):
            continue
        kept = known[0] if known else group[0]
        left |= {name: kept for name in group if name != kept}
    return left
