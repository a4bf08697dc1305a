"""Initial values, which a residual is measured from: 0, or 1 for IA3, or values that are given."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from metro_fast import _core
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.tensors import RawTensor

Initial: TypeAlias = Literal["zero", "one", "given"]
"""The value that a zero trit stands for, as an expert file spells it."""


def initial_of(role: str, *, given: bool) -> Initial:
    """Which initial value the tensors of a role have.

    Args:
        role: lora_A, lora_B, ia3, prompt, full or other.
        given: Whether the caller gives the values.

    Example:
        >>> initial_of("ia3", given=False), initial_of("lora_A", given=False)
        ('one', 'zero')
    """
    if given:
        return "given"
    return "one" if role == "ia3" else "zero"


def constant_of(initial: str) -> np.float32:
    """The constant part of an initial value: 1 for `"one"`, else 0. Given values come on top.

    Example:
        >>> float(constant_of("one")), float(constant_of("given"))
        (1.0, 0.0)
    """
    return np.float32(initial == "one")


def read_given(
    initial: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, NDArray[np.float32]]:
    """Given initial values in float32.

    Args:
        initial: Name to numpy array, torch tensor or `RawTensor`; it has all names of `shapes`.
        shapes: Shapes of the tensors that have given initial values.

    Raises:
        TypeError: If a value is not a tensor of a plain dtype.
        MetroFastError: If a shape differs.
    """
    given = {name: RawTensor.of(initial[name], name).float32() for name in shapes}
    for name, values in given.items():
        if values.shape != shapes[name]:
            raise MetroFastError(unequal(f"initial {name}", values.shape, shapes[name]))
    return given


def unequal(owner: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> str:
    """The message that an initial tensor does not have the shape of the tensor that it is for.

    Example:
        >>> unequal("base w", (3,), (4,))
        'base w has shape (3,), expected (4,)'
    """
    message = f"{owner} has shape {shape}, expected {expected}"
    if 0 in expected and 0 not in shape:
        message += (
            ": the finetuned tensor is empty, as it is when shards of DeepSpeed ZeRO-3 are saved; "
            "gather them before save_pretrained"
        )
    return message


def read_same_given(
    initial: Mapping[str, Any] | None,
    shapes: Mapping[str, tuple[int, ...]],
    checksum: int | None,
    owner: str,
) -> dict[str, NDArray[np.float32]]:
    """Initial values that are given again, to decode a residual.

    Args:
        initial: What the caller gave, or None.
        shapes: Shapes of the tensors that need given initial values; there may be none.
        checksum: `initial_checksum` of the values that `compress` was given.
        owner: What needs them, for messages.

    Raises:
        TypeError: If a value is not a tensor of a plain dtype.
        MetroFastError: If values are missing, or are not those that `compress` was given.
    """
    if not shapes:
        return {}
    missing = [name for name in shapes if name not in (initial or {})]
    if initial is None or missing:
        others = f" and {len(shapes) - 1} more" if len(shapes) > 1 else ""
        raise MetroFastError(
            f"{owner} is a residual: pass initial= with {missing[0]}{others}, as it was given to "
            "compress"
        )
    given = read_given(initial, shapes)
    if initial_checksum(given) != checksum:
        raise MetroFastError("the initial values are not those that compress was given")
    return given


def initial_checksum(given: Mapping[str, NDArray[np.float32]]) -> int:
    """The CRC32C of given initial values, taken in ascending order of names.

    Example:
        >>> ab = {"a": np.float32([1]), "b": np.float32([2])}
        >>> initial_checksum(ab) == initial_checksum(dict(reversed(ab.items())))
        True
    """
    flat = [given[name].reshape(-1) for name in sorted(given)]
    return _core.crc32c(np.concatenate(flat).view(np.uint8))
