"""Merges of LoRA experts by their updates B A, returned as factors again."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.peft_folder import parse_config
from metro_fast.experts.adapters.scaling import lora_scaling, module_of
from metro_fast.experts.adapters.tensors import RawTensor
from metro_fast.experts.adapters.updates import modules
from metro_fast.experts.compression.task_vector import Residual, TaskVector
from metro_fast.experts.expert import Expert
from metro_fast.experts.merging.fits import common_modules

Factors = tuple[NDArray[np.float64], NDArray[np.float64]]


def merge_deltas(
    experts: Sequence[Expert],
    weights: NDArray[np.float64],
    rank: int | None,
    heads: dict[str, RawTensor],
) -> TaskVector:
    """The weighted sum of the updates, as factors.

    Without `rank` the factors are concatenated, which is exact. With it they come from the
    truncated singular value decomposition, computed on r x r matrices by way of QR: B A is never
    formed.

    Args:
        experts: LoRA experts of one base, of any ranks and scalings.
        weights: float64 [experts].
        rank: Rank of the result, or None for the sum of the ranks.
        heads: Dense tensors of the result.

    Returns:
        A task vector whose configuration has alpha = r without rank stabilization, so that its
        scaling is 1. (PEFT's own "cat" keeps rank stabilization, so that its result is too large
        by a factor of the square root of the rank.)

    Raises:
        MetroFastError: If an expert is not a LoRA of linear layers, or the experts adapt
            different modules.
    """
    merged = combine([factors_of(expert) for expert in experts], weights, rank)
    return lora_of(merged, experts[0].config, heads)


def lora_of(
    merged: dict[str, Factors], first: bytes | None, heads: dict[str, RawTensor]
) -> TaskVector:
    """A task vector of factors whose product B A is the whole update, without scaling.

    Args:
        merged: A [r, in] and B [out, r], by module.
        first: The configuration of one of the experts; its ranks and alphas are replaced.
        heads: Dense tensors of the result.
    """
    residuals: dict[str, Residual] = {}
    for module, (a, b) in merged.items():
        for role, factor in (("lora_A", a), ("lora_B", b)):
            values = factor.astype(np.float32)
            residuals[f"{module}.{role}.weight"] = Residual(values, "F32", role, "zero")
    ranks = {module: len(a) for module, (a, _) in merged.items()}
    config = None if first is None else _config(parse_config(first), ranks)
    return TaskVector("lora", dict(sorted(residuals.items())), heads, None, config)


def combine(
    parts: Sequence[dict[str, Factors]], weights: NDArray[np.float64], rank: int | None
) -> dict[str, Factors]:
    """Factors of the weighted sum of updates, by module.

    Args:
        parts: For each expert, by module: A [r, in] and scaling times B [out, r]. Ranks may differ.
        weights: float64 [experts].
        rank: Rank of the results, or None for the sum of the ranks.

    Raises:
        MetroFastError: If the experts adapt different modules.
    """
    merged: dict[str, Factors] = {}
    for module in common_modules(parts):
        a = np.concatenate([part[module][0] for part in parts])
        scaled = zip((part[module][1] for part in parts), weights, strict=True)
        b = np.concatenate([weight * factor for factor, weight in scaled], axis=1)
        merged[module] = (a, b) if rank is None else truncated(a, b, rank)
    return merged


def truncated(a: NDArray[np.float64], b: NDArray[np.float64], rank: int) -> Factors:
    """The best approximation of b a by a matrix of low rank (Eckart and Young), as new factors.

    Args:
        a: [r, in].
        b: [out, r].
        rank: Most rows of the new a, and most columns of the new b.

    Example:
        >>> a, b = np.eye(2), np.diag([3.0, 1.0])
        >>> small, tall = truncated(a, b, 1)
        >>> np.round(np.abs(tall @ small), 9)
        array([[3., 0.],
               [0., 0.]])
    """
    left, inner_left = np.linalg.qr(b)
    right, inner_right = np.linalg.qr(a.T)
    small, tall = best_factors(inner_left @ inner_right.T, rank)
    return small @ right.T, left @ tall


def best_factors(update: NDArray[np.floating], rank: int) -> Factors:
    """The best approximation of an update by one of low rank (Eckart and Young), as A and B.

    Args:
        update: float [out, in].
        rank: Most rows of A, and most columns of B.

    Example:
        >>> a, b = best_factors(np.float32([[3, 0], [0, 1]]), 1)
        >>> np.round(np.abs(b @ a), 6)
        array([[3., 0.],
               [0., 0.]])
    """
    u, s, vt = np.linalg.svd(update.astype(np.float64), full_matrices=False)
    root = np.sqrt(s[:rank])
    return root[:, None] * vt[:rank], u[:, :rank] * root


def factors_of(expert: Expert) -> dict[str, Factors]:
    """A and scaling times B of each module of a LoRA expert.

    Raises:
        MetroFastError: If it is not a LoRA of linear layers.
    """
    if expert.manifest.kind != "lora":
        raise MetroFastError(
            f"an expert has kind {expert.manifest.kind!r}, but space='delta' is for LoRA experts: "
            "use space='factors'"
        )
    config: dict[str, Any] | None = None if expert.config is None else parse_config(expert.config)
    tensors = expert.arrays(np.float32)
    found: dict[str, Factors] = {}
    for names in modules({t.name: None for t in expert.manifest.tensors}).values():
        if len(names) != 2 or any(tensors[name].ndim != 2 for name in names):
            raise MetroFastError(
                f"{names[0]} does not belong to a pair of matrices A and B, which space='delta' "
                "needs: use space='factors'"
            )
        if not names[0].endswith(".lora_A.weight"):
            raise MetroFastError(
                f"{names[0]} does not end in .lora_A.weight: space='delta' needs the LoRA of "
                "linear layers under PEFT's names"
            )
        a, b = (tensors[name].astype(np.float64) for name in names)
        module = names[0].removesuffix(".lora_A.weight")
        scaling = 1.0 if config is None else lora_scaling(config, module_of(names[0]))
        found[module] = (a, scaling * b)
    return found


def _config(config: dict[str, Any], ranks: dict[str, int]) -> bytes:
    most = max(ranks.values())
    other = {module_of(f"{m}.lora_A"): r for m, r in ranks.items() if r != most}
    config |= {"r": most, "lora_alpha": most, "use_rslora": False}
    # The alphas equal the ranks, so that the scaling is 1 everywhere.
    config |= {"rank_pattern": other, "alpha_pattern": dict(other)}
    return json.dumps(config, indent=2, sort_keys=True).encode()
