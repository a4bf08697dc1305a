"""TIES over whole experts: by a table of combinations for up to 8 experts, else slab by slab."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from metro_fast import _core
from metro_fast.experts.merging.members import NATIVE_EXPERTS, Members, trits_of_combinations
from metro_fast.experts.merging.rules import Ties, elect, ties

SLAB = 1 << 17
"""Positions in one slab; the values of 16 experts take 16 MiB in float64."""

Slabs = Callable[[], Iterator[tuple[slice, NDArray[np.floating]]]]
"""Returns a new iterator, at each call, over places of the result and their values [experts, n]."""


def merge_ties(
    packed: Members, weights: NDArray[np.float64], rule: Ties, flat: NDArray[np.float32]
) -> None:
    """Write the TIES merge of packed experts.

    Args:
        packed: The experts.
        weights: float64 [experts].
        rule: The variant of TIES.
        flat: float32, one entry per trit; nothing is written between the tensors.
    """
    if len(packed.experts) <= NATIVE_EXPERTS:
        _by_combinations(packed, weights, rule, flat)
    else:
        slabs = partial(_slabs, packed)
        ties_of_slabs(slabs, weights, rule, flat, global_sign(slabs, rule))


def ties_of_slabs(
    slabs: Slabs,
    weights: NDArray[np.float64],
    rule: Ties,
    flat: NDArray[np.float32],
    undecided: float,
) -> None:
    """Write the TIES merge of dense values.

    Args:
        slabs: The values.
        weights: float64 [experts].
        rule: The variant of TIES.
        flat: float32: the array that the places of the slabs index.
        undecided: The sign for undecided positions, from `global_sign`.
    """
    for place, values in slabs():
        sign = elect(values, rule.sign_ties, rule.majority, undecided)
        flat[place] = ties(values, weights, sign, rule.function, rule.sign_ties)


def global_sign(slabs: Slabs, rule: Ties) -> float:
    """The sign of most positions, which ComPEFT's rule assigns to undecided ones.

    Args:
        slabs: The values of all positions.
        rule: The variant of TIES; under `"peft"` no position is undecided.
    """
    if rule.sign_ties != "compeft":
        return 0.0
    return float(np.sign(sum(elect(v, "compeft", rule.majority).sum() for _, v in slabs())))


def _by_combinations(
    packed: Members, weights: NDArray[np.float64], rule: Ties, flat: NDArray[np.float32]
) -> None:
    pieces, columns = packed.pieces(packed.scales)
    trits = trits_of_combinations(len(packed.experts))
    values = [column[:, None] * trits for column in columns.T]
    undecided = 0.0
    if rule.sign_ties == "compeft":
        counts = _core.count_combinations(
            packed.planes, pieces, len(values), packed.count, packed.threads
        ).reshape(len(values), -1)
        signs = [elect(v, "compeft", rule.majority) for v in values]
        undecided = float(np.sign(sum(float(c @ s) for c, s in zip(counts, signs, strict=True))))
    tables = []
    for v in values:
        sign = elect(v, rule.sign_ties, rule.majority, undecided)
        tables.append(ties(v, weights, sign, rule.function, rule.sign_ties))
    _core.look_up(packed.planes, pieces, np.array(tables, np.float32), flat, packed.threads)


def _slabs(packed: Members) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    places = zip(packed.starts, packed.sizes, packed.scales.T, strict=True)
    for start, size, scales in places:
        for first in range(start, start + size, SLAB):
            last = min(first + SLAB, start + size)
            trits = np.stack([_trits(planes, first, last) for planes in packed.planes])
            yield slice(first, last), scales[:, None] * trits


def _trits(
    planes: tuple[NDArray[np.uint64], NDArray[np.uint64]], first: int, last: int
) -> NDArray[np.float64]:
    """The trits from first to last; first is a multiple of 8, as is the start of every tensor."""
    mask, negative = (
        np.unpackbits(
            plane.view(np.uint8)[first // 8 : (last + 7) // 8],
            count=last - first,
            bitorder="little",
        )
        for plane in planes
    )
    return mask * (1.0 - 2.0 * negative)
