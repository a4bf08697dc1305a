"""Merging of packed experts into one task vector."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.roles import factor_of, role_of
from metro_fast.experts.adapters.tensors import RawTensor
from metro_fast.experts.compression.task_vector import Residual, TaskVector
from metro_fast.experts.expert import Expert, read_expert
from metro_fast.experts.merging.fits import (
    alphas,
    check_configs,
    check_kinds,
    check_settings,
    check_updates,
)
from metro_fast.experts.merging.lora_delta import merge_deltas
from metro_fast.experts.merging.lora_trimmed import merge_trimmed
from metro_fast.experts.merging.members import Members
from metro_fast.experts.merging.metadata import common_metadata
from metro_fast.experts.merging.names import names_of
from metro_fast.experts.merging.rank_records import metadata_of_updates
from metro_fast.experts.merging.roots import factor_weights
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
    space: str | None = None,
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
        space: For LoRA: `"delta"` merges the updates B A, exactly and with the sum of the ranks,
            or approximated as well as possible at `rank`; `"factors"` merges A and B separately
            (A and B each get the root of the weight and of the scaling relative to that of the
            first expert, as in PEFT), so that their product has cross terms: A of one expert with
            B of another. By default the updates of LoRA are merged, but TIES without `rank` elects
            the signs of factors. Other kinds have no factors; each tensor gets the weight.
        rank: For updates: the rank of the result.
        trim: For updates: the share of each module's update B A that is kept before the
            merge, largest magnitudes first (PEFT's `density`); the rest becomes 0. Both this and
            `"ties"` of updates compute B A of one module at a time, and need `rank`.
        heads_from: Index of the expert whose dense tensors (heads) the result gets; required if
            one of several experts has any. Tensors with the alpha of a LoRA module, such as
            `lora_unet_q.alpha` of kohya, are not heads: they are part of the scaling.
        num_threads: Threads to use; the machine's cores by default.

    Returns:
        The task vector, float32, with the configuration, or the alphas, that fit it.

    Raises:
        TypeError: If a source is not an expert or a path, `experts` is one source alone or not a
            list, or a weight is not a number.
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
    if isinstance(experts, str | Path | Expert | Mapping):
        raise TypeError(f"experts is a {type(experts).__name__}, expected a list of experts")
    experts = list(experts)
    members = [read_expert(expert) for expert in experts]
    factors = _weights(weights, len(members))
    if method == "mean":
        factors *= 1 / len(members)
    named = dict(zip(names_of(experts), members, strict=True))
    elected = rule if method == "ties" else None
    needs_delta = {"rank": rank, "trim": trim}
    space = _space(space, members[0].manifest.kind, elected, needs_delta)
    check_configs(named)
    check_updates(named)
    heads = _heads(named, heads_from)
    metadata = {name: member.metadata for name, member in named.items()}
    if space == "delta":
        check_kinds(named, ("lora",))
        check_settings(named)
        if elected is not None or trim is not None:
            merged = merge_trimmed(named, factors, rank, trim, elected, heads)
        else:
            merged = merge_deltas(named, factors, rank, heads)
        return replace(merged, metadata=metadata_of_updates(metadata, merged.residuals))
    kept = common_metadata(metadata)
    packed = Members(named, num_threads)
    _check_ternary_factors(named)
    by_tensor = factor_weights(packed, factors)
    flat = np.zeros(packed.count, np.float32)
    if elected is not None:
        merge_ties(packed, by_tensor, elected, flat)
    else:
        weighted_sum(packed, by_tensor, flat)
    merged = _vector_of(members[0], flat, heads | alphas(members[0]))
    return replace(merged, metadata=kept)


def _space(
    space: str | None, kind: str, elected: Ties | None, needs_delta: dict[str, float | None]
) -> str:
    """The space of a merge, and whether it fits the other options."""
    if space is not None:
        choice("space", space, ("factors", "delta"))
    given = next((name for name, value in needs_delta.items() if value is not None), None)
    if space is None:
        summed = kind == "lora" and elected is None
        space = "delta" if summed or given is not None else "factors"
    if space == "factors" and given is not None:
        raise MetroFastError(f"{given} is {needs_delta[given]}, which needs space='delta'")
    if space == "delta" and kind != "lora":
        why = "space='delta' is" if given is None else f"{given} is {needs_delta[given]}, which is"
        raise MetroFastError(f"{why} for LoRA experts, and these have kind {quoted(kind)}")
    rank = needs_delta["rank"]
    if rank is not None and (rank < 1 or rank != int(rank)):
        raise MetroFastError(f"rank is {rank}, expected a whole number of at least 1")
    return space


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
    try:
        values = np.ones(count) if weights is None else np.array(weights, np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"weights are {weights}, expected {count} numbers") from error
    if values.shape != (count,) or not np.isfinite(values).all():
        raise MetroFastError(f"weights are {weights}, expected {count} finite numbers")
    return values


def _heads(experts: Mapping[str, Expert], heads_from: int | None) -> dict[str, RawTensor]:
    """The dense tensors that the result gets: neither factors of LoRA nor their alphas."""
    heads = {name: _heads_of(expert) for name, expert in experts.items()}
    if heads_from is None and len(experts) > 1:
        for name, tensors in heads.items():
            if tensors:
                raise MetroFastError(
                    f"expert {name} has dense tensors ({next(iter(tensors))}), which cannot be "
                    "merged: give the index of the expert that the result takes them from as "
                    "heads_from="
                )
        return {}
    heads_from = heads_from or 0
    if not 0 <= heads_from < len(experts):
        raise MetroFastError(f"heads_from is {heads_from}, expected 0 to {len(experts) - 1}")
    return list(heads.values())[heads_from]


def _heads_of(expert: Expert) -> dict[str, RawTensor]:
    if expert.manifest.kind != "lora":
        return dict(expert.dense)
    known = alphas(expert)
    return {n: t for n, t in expert.dense.items() if n not in known and factor_of(n) is None}


def _check_ternary_factors(experts: Mapping[str, Expert]) -> None:
    """Check that no factor of LoRA was kept whole, which a merge of packed factors leaves out."""
    for name, expert in experts.items():
        whole = next((n for n in expert.dense if factor_of(n) is not None), None)
        if expert.manifest.kind == "lora" and whole is not None:
            raise MetroFastError(
                f"expert {name} has {whole} as a dense tensor: use space='delta', which reads it"
            )
