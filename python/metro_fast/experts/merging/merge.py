"""Several experts as one task vector, from their packed form."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.roles import role_of
from metro_fast.experts.adapters.tensors import RawTensor
from metro_fast.experts.compression.task_vector import Residual, TaskVector
from metro_fast.experts.expert import Expert, read_expert
from metro_fast.experts.merging.lora_delta import merge_deltas, same_scaling
from metro_fast.experts.merging.lora_trimmed import merge_trimmed
from metro_fast.experts.merging.members import Members, read_members
from metro_fast.experts.merging.rules import METHODS, Ties, choice
from metro_fast.experts.merging.ties import merge_ties
from metro_fast.experts.merging.weighted_sum import weighted_sum


def merge(
    experts: Sequence[Expert | str | Path],
    *,
    method: str = "mean",
    weights: Sequence[float] | None = None,
    merge_function: str = "mean",
    sign_ties: str = "peft",
    majority: str = "total",
    space: str = "factors",
    rank: int | None = None,
    trim: float | None = None,
    heads_from: int | None = None,
    num_threads: int | None = None,
) -> TaskVector:
    """Merge experts into one dense task vector.

    Of k experts a position holds one of 3^k combinations of trits, so that any rule is computed
    once a combination and looked up: the experts stay packed (2 bits a parameter while this runs),
    and the result is written once. It is not ternary; `compress(vector)` makes an expert of it.

    Args:
        experts: Experts or their paths, of the same base and modules.
        method: `"mean"`; `"task_arithmetic"` (arXiv 2212.04089): the weighted sum; `"ties"`
            (arXiv 2306.01708): elect a sign, merge what agrees; experts are trimmed already.
        weights: One number an expert; 1 each by default. With `"mean"` the weighted sum is divided
            by the number of experts; with `"ties"` they count after the election, as in PEFT.
        merge_function: With `"ties"`: `"sum"`, `"mean"` (of those that agree) or `"max"`.
        sign_ties: Who wins where signs balance: `"peft"`: plus; `"compeft"`: the majority of all
            positions. Ternary experts balance often.
        majority: With `"ties"`: `"total"` or `"frequency"`, as in PEFT.
        space: Of a LoRA: `"factors"` merges A and B apart, whose product has cross terms (A of one
            with B of another); `"delta"` merges the updates B A: exactly, with the sum of the
            ranks, or with `rank` the best approximation of that rank.
        rank: With `space="delta"`: the rank of the result.
        trim: With `space="delta"`: share of each module's update B A that is kept before it is
            merged, largest magnitudes first (PEFT's `density`); the others become 0. This, and
            `"ties"` of updates, writes out B A of a module at a time, and needs `rank`.
        heads_from: Index of the expert whose dense tensors (heads) the result gets; needed where
            there are any.
        num_threads: Threads to use; the machine's cores by default.

    Returns:
        The task vector, float32, with the configuration that fits it.

    Raises:
        TypeError: If an expert is no expert.
        MetroFastError: If experts or options do not fit each other; the message says which.

    Example:
        >>> from metro_fast.experts import compress
        >>> rng = np.random.default_rng(0)
        >>> experts = [
        ...     compress({"m.ia3_l": rng.normal(1, 1, 64).astype(np.float32)}) for _ in range(3)
        ... ]
        >>> merge(experts, method="ties").residuals["m.ia3_l"].values.shape
        (64,)
    """
    choice("method", method, METHODS)
    rule = Ties(merge_function, sign_ties, majority)
    rule.check()
    choice("space", space, ("factors", "delta"))
    members = [read_expert(expert) for expert in experts]
    counted = _weights(weights, len(members))
    heads = _heads(members, heads_from)
    if space == "delta":
        if rank is not None and rank < 1:
            raise MetroFastError(f"rank is {rank}, expected at least 1")
        share = 1 / len(members) if method == "mean" else 1.0
        if method == "ties" or trim is not None:
            elected = rule if method == "ties" else None
            return merge_trimmed(members, counted * share, rank, trim, elected, heads)
        return merge_deltas(members, counted * share, rank, heads)
    for name, value in (("rank", rank), ("trim", trim)):
        if value is not None:
            raise MetroFastError(f"{name} is {value}, which needs space='delta'")
    packed = Members(read_members(members), num_threads)
    same_scaling(members)
    flat = np.zeros(packed.count, np.float32)
    if method == "ties":
        merge_ties(packed, counted, rule, flat)
    else:
        share = 1 / len(members) if method == "mean" else 1.0
        weighted_sum(packed, counted * share, flat)
    manifest = members[0].manifest
    residuals = {
        t.name: Residual(
            flat[t.start : t.start + t.size].reshape(t.shape),
            t.dtype,
            role_of(t.name) or manifest.kind,
            t.initial,
        )
        for t in manifest.tensors
    }
    crc = manifest.base.initial_crc32c
    return TaskVector(manifest.kind, residuals, heads, crc, members[0].config)


def _weights(weights: Sequence[float] | None, count: int) -> NDArray[np.float64]:
    if count == 0:
        raise MetroFastError("no experts to merge")
    counted = np.ones(count) if weights is None else np.asarray(weights, np.float64)
    if counted.shape != (count,) or not np.isfinite(counted).all():
        raise MetroFastError(f"weights are {weights}, expected {count} finite numbers")
    return counted


def _heads(experts: Sequence[Expert], heads_from: int | None) -> dict[str, RawTensor]:
    if heads_from is None:
        named = next((name for e in experts for name in e.dense), None)
        if named is not None:
            raise MetroFastError(
                f"the experts have dense tensors ({named}), which are not merged: heads_from= says "
                "whose to take"
            )
        return {}
    if not 0 <= heads_from < len(experts):
        raise MetroFastError(f"heads_from is {heads_from}, expected 0 to {len(experts) - 1}")
    return dict(experts[heads_from].dense)
