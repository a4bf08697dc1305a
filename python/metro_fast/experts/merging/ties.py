"""TIES over whole experts: by a table of combinations for up to 8 experts, else slab by slab."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from metro_fast import _core
from metro_fast.experts.merging.members import NATIVE_EXPERTS, Members, trits_of_combinations
from metro_fast.experts.merging.rules import Ties, elect, ties

SLAB = 1 << 17
"""Positions in one slab; the values of 16 experts take 16 MiB in float64."""


class Slab(NamedTuple):
    """A part of what is merged.

    Attributes:
        place: Its place in the result.
        values: float [experts, n]: the values there, not weighted.
        weights: float64 [experts]: the weights of these values.
    """

    place: slice
    values: NDArray[np.floating]
    weights: NDArray[np.float64]


Slabs = Callable[[], Iterator[Slab]]
"""Returns a new iterator over all parts at each call."""


def merge_ties(
    packed: Members, weights: NDArray[np.float64], rule: Ties, flat: NDArray[np.float32]
) -> None:
    """Write the TIES merge of packed experts.

    Args:
        packed: The experts.
        weights: float64 [experts, tensors].
        rule: The variant of TIES.
        flat: float32, one entry per trit; nothing is written between the tensors.
    """
    if len(packed.experts) <= NATIVE_EXPERTS:
        _by_combinations(packed, weights, rule, flat)
    else:
        slabs = partial(_slabs, packed, weights)
        ties_of_slabs(slabs, rule, flat, global_sign(slabs, rule))


def ties_of_slabs(
    slabs: Slabs,
    rule: Ties,
    flat: NDArray[np.float32],
    undecided: float,
) -> None:
    """Write the TIES merge of dense values.

    Args:
        slabs: The values and their weights.
        rule: The variant of TIES.
        flat: float32: the array that the places of the slabs index.
        undecided: The sign for undecided positions, from `global_sign`.
    """
    for slab in slabs():
        sign = elect(slab.values, rule.sign_ties, rule.majority, undecided)
        merged = ties(slab.values, slab.weights, sign, rule.function, rule.sign_ties)
        flat[slab.place] = merged


def global_sign(slabs: Slabs, rule: Ties) -> float:
    """The sign of most positions, which ComPEFT's rule assigns to undecided ones.

    Args:
        slabs: The values of all positions.
        rule: The variant of TIES; under `"peft"` no position is undecided.
    """
    if rule.sign_ties != "compeft":
        return 0.0
    signs = (elect(slab.values, "compeft", rule.majority).sum() for slab in slabs())
    return float(np.sign(sum(signs)))


def _by_combinations(
    packed: Members, weights: NDArray[np.float64], rule: Ties, flat: NDArray[np.float32]
) -> None:
    count = len(packed.experts)
    pieces, columns = packed.pieces(np.concatenate([packed.scales, weights]))
    trits = trits_of_combinations(count)
    values = [column[:count, None] * trits for column in columns.T]
    undecided = 0.0
    if rule.sign_ties == "compeft":
        counts = _core.count_combinations(
            packed.planes, pieces, len(values), packed.count, packed.threads
        ).reshape(len(values), -1)
        signs = [elect(v, "compeft", rule.majority) for v in values]
        undecided = float(np.sign(sum(float(c @ s) for c, s in zip(counts, signs, strict=True))))
    tables = []
    for v, column in zip(values, columns.T, strict=True):
        sign = elect(v, rule.sign_ties, rule.majority, undecided)
        tables.append(ties(v, column[count:], sign, rule.function, rule.sign_ties))
    _core.look_up(packed.planes, pieces, np.array(tables, np.float32), flat, packed.threads)


def _slabs(packed: Members, weights: NDArray[np.float64]) -> Iterator[Slab]:
    places = zip(packed.starts, packed.sizes, packed.scales.T, weights.T, strict=True)
    for start, size, scales, own in places:
        for first in range(start, start + size, SLAB):
            last = min(first + SLAB, start + size)
            trits = np.stack([_trits(planes, first, last) for planes in packed.planes])
            yield Slab(slice(first, last), scales[:, None] * trits, own)


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
