"""Merges of LoRA experts whose updates B A are trimmed, or whose signs are elected."""

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.tensors import RawTensor
from metro_fast.experts.compression.task_vector import TaskVector
from metro_fast.experts.expert import Expert
from metro_fast.experts.merging.factors import best_factors, product
from metro_fast.experts.merging.fits import common_modules
from metro_fast.experts.merging.lora_delta import Pairs, factors_of, lora_of, same_shapes
from metro_fast.experts.merging.rules import Ties, prune
from metro_fast.experts.merging.ties import SLAB, Slab, global_sign, ties_of_slabs


def merge_trimmed(
    experts: Mapping[str, Expert],
    weights: NDArray[np.float64],
    rank: int | None,
    trim: float | None,
    rule: Ties | None,
    heads: dict[str, RawTensor],
) -> TaskVector:
    """Merge full updates B A, and factorize the result (PEFT's `ties_svd`).

    Trimmed and elected updates do not have low rank. So B A of all experts is computed for one
    module at a time (float32), and a full singular value decomposition reduces the result to the
    rank, which takes seconds for a matrix of 2,000 x 2,000.

    Args:
        experts: LoRA experts of one base, of any ranks and scalings, by name.
        weights: float64 [experts].
        rank: Rank of the result; required.
        trim: Share of each update that is kept, or None for all of it.
        rule: The rule of the election, or None for the weighted sum.
        heads: Dense tensors of the result.

    Raises:
        MetroFastError: If the experts adapt different modules, the rank is missing, or the share
            is out of range.
    """
    if rank is None:
        raise MetroFastError(
            "rank is None, but a trimmed or elected update does not have low rank: rank= says "
            "which rank the result gets"
        )
    if trim is not None and not 0 < trim <= 1:
        raise MetroFastError(f"trim is {trim}, expected a share above 0 and at most 1")
    parts = {name: factors_of(expert) for name, expert in experts.items()}
    first = next(iter(parts.values()))
    merged = {
        module: best_factors(update, rank, first[module])
        for module, update in trimmed_updates(parts, weights, trim, rule)
    }
    return lora_of(merged, list(experts.values()), heads)


def trimmed_updates(
    parts: Mapping[str, Pairs],
    weights: NDArray[np.float64],
    trim: float | None,
    rule: Ties | None,
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The merged update of each module: float32, of the shape of its `product`.

    Args:
        parts: The factors of each expert, by its name.
        weights: float64 [experts].
        trim: Share of each update that is kept, or None for all of it.
        rule: The rule of the election, or None for the weighted sum.
    """
    modules, first = common_modules(parts), next(iter(parts.values()))

    def updates(module: str) -> NDArray[np.float32]:
        products = [product(pair).astype(np.float32) for pair in same_shapes(parts, module)]
        flat = np.stack(products).reshape(len(parts), -1)
        return flat if trim is None else prune(flat, trim)

    def all_slabs() -> Iterator[Slab]:
        for module in modules:
            yield from _slabs(updates(module), weights)

    undecided = 0.0 if rule is None else global_sign(all_slabs, rule)
    for module in modules:
        values = updates(module)
        if rule is None:
            merged = (weights.astype(np.float32) @ values).astype(np.float32)
        else:
            merged = np.empty(values.shape[1], np.float32)
            ties_of_slabs(partial(_slabs, values, weights), rule, merged, undecided)
        yield module, merged.reshape(len(first[module].b), -1)


def _slabs(values: NDArray[np.float32], weights: NDArray[np.float64]) -> Iterator[Slab]:
    for first in range(0, values.shape[1], SLAB):
        place = slice(first, min(first + SLAB, values.shape[1]))
        yield Slab(place, values[:, place], weights)
