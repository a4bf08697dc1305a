"""Merging of packed experts into one task vector."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.roles import role_of
from metro_fast.experts.adapters.tensors import RawTensor
from metro_fast.experts.compression.task_vector import Residual, TaskVector
from metro_fast.experts.expert import Expert, read_expert
from metro_fast.experts.merging.fits import check_scalings
from metro_fast.experts.merging.lora_delta import merge_deltas
from metro_fast.experts.merging.lora_trimmed import merge_trimmed
from metro_fast.experts.merging.members import Members
from metro_fast.experts.merging.metadata import common_metadata
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

    At each position, k experts hold one of 3^k combinations of trits. So any rule is computed once
    per combination and looked up: the experts stay packed (2 bits per parameter while this runs),
    and the result is written once. It is not ternary; `compress(vector)` makes an expert of it.

    Args:
        experts: Experts or their paths, of the same base and modules.
        method: `"mean"`; `"task_arithmetic"` (arXiv 2212.04089): the weighted sum; `"ties"`
            (arXiv 2306.01708): elect a sign and merge the values that agree with it; compressed
            experts are trimmed already.
        weights: One number per expert; 1 each by default. With `"mean"` the weighted sum is divided
            by the number of experts; with `"ties"` weights apply after the election, as in PEFT.
        merge_function: With `"ties"`: `"sum"`, `"mean"` (of the values that agree) or `"max"`.
        sign_ties: With `"ties"`: the sign where the signs balance, which is common with ternary
            experts. `"peft"`: plus; `"compeft"`: the sign of most positions.
        majority: With `"ties"`: `"total"` or `"frequency"`, as in PEFT.
        space: For LoRA: `"factors"` merges A and B separately, so that their product has cross
            terms (A of one expert with B of another); `"delta"` merges the updates B A, exactly
            and with the sum of the ranks, or approximated as well as possible at `rank`.
        rank: With `space="delta"`: the rank of the result.
        trim: With `space="delta"`: the share of each module's update B A that is kept before the
            merge, largest magnitudes first (PEFT's `density`); the rest becomes 0. Both this and
            `"ties"` of updates compute B A of one module at a time, and need `rank`.
        heads_from: Index of the expert whose dense tensors (heads) the result gets; required if
            an expert has any.
        num_threads: Threads to use; the machine's cores by default.

    Returns:
        The task vector, float32, with the configuration that fits it.

    Raises:
        TypeError: If a source is not an expert or a path.
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
    factors = _weights(weights, len(members))
    if method == "mean":
        factors *= 1 / len(members)
    heads = _heads(members, heads_from)
    metadata = common_metadata(
        {str(i): member.metadata for i, member in enumerate(members)}, same_ranks=space != "delta"
    )
    elected = rule if method == "ties" else None
    if space == "delta":
        if rank is not None and rank < 1:
            raise MetroFastError(f"rank is {rank}, expected at least 1")
        if elected is not None or trim is not None:
            trimmed = merge_trimmed(members, factors, rank, trim, elected, heads)
            return replace(trimmed, metadata=metadata)
        return replace(merge_deltas(members, factors, rank, heads), metadata=metadata)
    for name, value in (("rank", rank), ("trim", trim)):
        if value is not None:
            raise MetroFastError(f"{name} is {value}, which needs space='delta'")
    packed = Members(members, num_threads)
    check_scalings(
        {str(i): member for i, member in enumerate(members)},
        "A and B cannot be merged separately, use space='delta'",
    )
    flat = np.zeros(packed.count, np.float32)
    if elected is not None:
        merge_ties(packed, factors, elected, flat)
    else:
        weighted_sum(packed, factors, flat)
    return replace(_vector_of(members[0], flat, heads), metadata=metadata)


def _vector_of(first: Expert, flat: NDArray[np.float32], heads: dict[str, RawTensor]) -> TaskVector:
    """A task vector of merged values, with the layout and configuration of the first expert."""
    manifest = first.manifest
    residuals = {
        t.name: Residual(
            flat[t.start : t.start + t.size].reshape(t.shape),
            t.dtype,
            role_of(t.name) or manifest.kind,
            t.initial,
        )
        for t in manifest.tensors
    }
    return TaskVector(manifest.kind, residuals, heads, manifest.base.initial_crc32c, first.config)


def _weights(weights: Sequence[float] | None, count: int) -> NDArray[np.float64]:
    if count == 0:
        raise MetroFastError("no experts are given, expected at least one")
    values = np.ones(count) if weights is None else np.array(weights, np.float64)
    if values.shape != (count,) or not np.isfinite(values).all():
        raise MetroFastError(f"weights are {weights}, expected {count} finite numbers")
    return values


def _heads(experts: Sequence[Expert], heads_from: int | None) -> dict[str, RawTensor]:
    if heads_from is None:
        head = next((name for e in experts for name in e.dense), None)
        if head is not None:
            raise MetroFastError(
                f"the experts have dense tensors ({head}), which cannot be merged: give the index "
                "of the expert that the result takes them from as heads_from="
            )
        return {}
    if not 0 <= heads_from < len(experts):
        raise MetroFastError(f"heads_from is {heads_from}, expected 0 to {len(experts) - 1}")
    return dict(experts[heads_from].dense)
