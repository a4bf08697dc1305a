"""Updates that are products: a LoRA's B A by blocks, with its initial values and AdaLoRA's E."""

import math
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.roles import factor_of

Values = Mapping[str, NDArray[Any]]
Product = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Two factors by blocks, [groups, out, rank] and [groups, rank, in], whose product is an update."""


class Update(NamedTuple):
    """The tensors whose change is one update.

    Attributes:
        module: The module's name, without the name of the parameter.
        names: The tensors that are ternary: A before B, or one tensor that is an update itself.
        a: The name of a LoRA's A, or None for one tensor.
        b: The name of its B, or None.
        e: The name of AdaLoRA's E, which scales the rows of A, or None.
    """

    module: str
    names: tuple[str, ...]
    a: str | None = None
    b: str | None = None
    e: str | None = None


class Side(NamedTuple):
    """An adapter before or after compression.

    Attributes:
        residuals: What the ternary tensors add to their initial values, by name.
        whole: The values of factors that are kept whole, by name.
    """

    residuals: Values
    whole: Values


def is_factor(name: str) -> bool:
    """Whether a name is that of A or B of a LoRA, or of E of AdaLoRA.

    Example:
        >>> is_factor("q.lora_E"), is_factor("classifier.weight")
        (True, False)
    """
    return factor_of(name.replace(".lora_E", ".lora_A")) is not None


def updates_of(kind: str, names: Collection[str], whole: Collection[str] = ()) -> list[Update]:
    """Group the ternary tensors of an adapter by update, in the order of their names.

    In a LoRA, A and B make one update, even where one of them is kept whole. Tensors of any other
    kind, and a factor whose partner the adapter lacks, are updates themselves.

    Args:
        kind: lora, ia3, prompt, full or other.
        names: The names of the ternary tensors.
        whole: The names of tensors that are kept whole.

    Example:
        >>> [update] = updates_of("lora", ["q.lora_A", "q.lora_B"], ["q.lora_E"])
        >>> update.module, update.names, update.e
        ('q', ('q.lora_A', 'q.lora_B'), 'q.lora_E')
        >>> [update.names for update in updates_of("other", ["q.lora_A", "q.lora_B"])]
        [('q.lora_A',), ('q.lora_B',)]
    """
    known, found = {*names, *whole}, dict[str, Update]()
    for name in names:
        factor = factor_of(name) if kind == "lora" else None
        if factor is None or factor.partner not in known:
            found[name] = Update(name, (name,))
            continue
        pair = (name, factor.partner) if factor.role == "lora_A" else (factor.partner, name)
        scaling = pair[0].replace(".lora_A", ".lora_E")
        e = scaling if scaling != pair[0] and scaling in known else None
        ternary = tuple(member for member in pair if member in names)
        found[factor.module] = Update(factor.module, ternary, *pair, e)
    return list(found.values())


def is_plain(update: Update, side: Side, starts: Values) -> bool:
    """Whether an update is one tensor, or the product of two ternary factors that started at 0.

    What may be estimated from sums over the factors, or sampled: E, initial values, factors that
    are kept whole and blocks of ranks are not in such sums.
    """
    if update.a is None or update.b is None:
        return True
    if update.e is not None or len(update.names) != 2 or not starts.keys().isdisjoint(update.names):
        return False
    blocks = _blocks(*(side.residuals[name].shape for name in update.names))
    return blocks is not None and blocks[0][0] == 1


def misfit(update: Update, side: Side) -> str | None:
    """Why the product of an update's factors is not defined, naming their shapes; None if it is.

    Example:
        >>> side = Side({"a": np.zeros((4, 9)), "b": np.zeros((9, 3))}, {})
        >>> misfit(Update("q", ("a", "b"), "a", "b"), side)  # doctest: +ELLIPSIS
        'a has shape (4, 9) and b has shape (9, 3), whose product B A is not defined: ...'
    """
    if update.a is None or update.b is None:
        return None
    values = {**side.whole, **side.residuals}
    a, b = values[update.a].shape, values[update.b].shape
    blocks = _blocks(a, b)
    if blocks is None:
        return (
            f"{update.a} has shape {a} and {update.b} has shape {b}, whose product B A is not "
            "defined: expected A [r, in] and B [out, r], or [out, r / groups]"
        )
    ranks = blocks[0][0] * blocks[0][1]
    if update.e is not None and values[update.e].size != ranks:
        return (
            f"{update.e} has shape {values[update.e].shape}, expected one entry for each of the "
            f"{ranks} rows of {update.a}"
        )
    return None


def product_of(update: Update, side: Side, starts: Values) -> Product:
    """The change of B E A from its initial value, as two factors that are never multiplied.

    From B0 E0 A0 to B E A, with B = B0 + dB, and R = E A with its change dR = E dA + (E - E0) A0,
    the change is dB R + B0 dR, which are the columns [dB, B0] times the rows [R, dR]. No large
    values cancel in it. Where an initial value is not known it is 0, as in PEFT.

    Args:
        update: An update with A and B.
        side: The tensors before or after compression.
        starts: Given initial values of factors, by name.

    Raises:
        MetroFastError: If the shapes of A, B and E do not fit each other.

    Example:
        >>> one = Side({"a": np.float32([[1, 2]]), "b": np.float32([[1], [0]])}, {})
        >>> columns, rows = product_of(Update("q", ("a", "b"), "a", "b"), one, {})
        >>> (columns @ rows).tolist()
        [[[1.0, 2.0], [0.0, 0.0]]]
    """
    assert update.a is not None
    assert update.b is not None
    a, b = (_factor(name, side, starts) for name in (update.a, update.b))
    blocks, reason = _blocks(a.value.shape, b.value.shape), misfit(update, side)
    if blocks is None or reason is not None:
        raise MetroFastError(str(reason))
    row_shape, column_shape = blocks
    rows, row_change = (part.reshape(row_shape) for part in (a.value, a.change))
    if update.e is not None:
        e = _factor(update.e, side, starts)
        scale, scale_change = (part.reshape(*rows.shape[:2], 1) for part in (e.value, e.change))
        row_change = scale * row_change + scale_change * a.start.reshape(row_shape)
        rows = scale * rows
    columns, first = (part.reshape(column_shape) for part in (b.change, b.start))
    if not first.any():
        return columns, rows
    return np.concatenate([columns, first], 2), np.concatenate([rows, row_change], 1)


Shape = tuple[int, ...]


def _blocks(a: Shape, b: Shape) -> tuple[Shape, Shape] | None:
    """The shapes [groups, rank, in] of A and [groups, out, rank] of B; None if they do not fit.

    A is [r, in, ...] and B [out, r / groups, 1, ...], where the g-th block of B's rows reads the
    g-th block of A's rows, as in a grouped convolution and in loralib's `enable_lora`. Or both have
    one matrix for each expert of a mixture, [experts, r, in] and [experts, out, r].
    """
    if len(a) > 1 and len(b) > 1 and min(*a, *b) > 0:
        groups = a[0] // b[1]
        if a[0] == groups * b[1] and groups and b[0] % groups == 0 and math.prod(b[2:]) == 1:
            return (groups, b[1], -1), (groups, b[0] // groups, b[1])
        if len(a) == len(b) == 3 and (a[0], a[1]) == (b[0], b[2]):
            return a, b
    return None


def inner_product(x: Product, y: Product) -> float:
    """The inner product of two updates: <B A, B' A'> = sum((B^T B') * (A A'^T)) over the blocks.

    The matrices have the sizes of the ranks, and B A is never formed.
    """
    left = np.matmul(x[0].transpose(0, 2, 1), y[0])
    right = np.matmul(x[1], y[1].transpose(0, 2, 1))
    return float(np.sum(left * right))


class _Factor(NamedTuple):
    """A factor's value, its initial value, and their difference, in float64."""

    value: NDArray[np.float64]
    start: NDArray[np.float64]
    change: NDArray[np.float64]


def _factor(name: str, side: Side, starts: Values) -> _Factor:
    # In float64: squares of 1e-25 and of 1e22 do not fit float32.
    ternary = name in side.residuals
    known = (side.residuals if ternary else side.whole)[name].astype(np.float64)
    start = starts[name].astype(np.float64) if name in starts else np.zeros_like(known)
    if ternary:
        return _Factor(start + known, start, known)
    return _Factor(known, start, known - start)
