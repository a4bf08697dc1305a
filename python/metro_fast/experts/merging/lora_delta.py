"""Merges of LoRA experts by their updates B A, returned as factors again."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.peft_folder import parse_config
from metro_fast.experts.adapters.roles import alpha_name, alphas_of, factor_of
from metro_fast.experts.adapters.scaling import module_of
from metro_fast.experts.adapters.tensors import RawTensor
from metro_fast.experts.adapters.updates import modules
from metro_fast.experts.compression.task_vector import Residual, TaskVector
from metro_fast.experts.expert import Expert
from metro_fast.experts.merging.factors import Pair, concatenated, truncated
from metro_fast.experts.merging.fits import common_modules, scalings_of

Pairs = dict[str, Pair]
"""The factors of each module of an expert, by module."""


class Names(NamedTuple):
    """The names of a module's tensors.

    Attributes:
        a: The name of A.
        b: The name of B.
        alpha: The name of its alpha, or None if the configuration has it, or nothing does.
    """

    a: str
    b: str
    alpha: str | None


def merge_deltas(
    experts: Mapping[str, Expert],
    weights: NDArray[np.float64],
    rank: int | None,
    heads: dict[str, RawTensor],
) -> TaskVector:
    """The weighted sum of the updates, as factors.

    Without `rank` the factors are concatenated, which is exact. With it they come from the
    truncated singular value decomposition.

    Args:
        experts: LoRA experts of one base, of any ranks and scalings, by name.
        weights: float64 [experts].
        rank: Rank of the result, or None for the sum of the ranks.
        heads: Dense tensors of the result.

    Returns:
        A task vector as `lora_of` makes it. (PEFT's own "cat" keeps rank stabilization, so that
        its result is too large by a factor of the square root of the rank.)

    Raises:
        MetroFastError: If the experts adapt different modules, or one has a factor without the
            other.
    """
    parts = {name: factors_of(expert) for name, expert in experts.items()}
    return lora_of(combine(parts, weights, rank), list(experts.values()), heads)


def combine(parts: Mapping[str, Pairs], weights: NDArray[np.float64], rank: int | None) -> Pairs:
    """Factors of the weighted sum of updates, by module.

    Args:
        parts: The factors of each expert, by its name. Ranks may differ.
        weights: float64 [experts].
        rank: Rank of the results, or None for the sum of the ranks.

    Raises:
        MetroFastError: If the experts adapt different modules, or the rank does not fit.
    """
    merged: Pairs = {}
    for module in common_modules(parts):
        both = concatenated(same_shapes(parts, module), weights)
        merged[module] = both if rank is None else truncated(both, rank)
    return merged


def same_shapes(parts: Mapping[str, Pairs], module: str) -> list[Pair]:
    """The factors of one module, which may only differ in their ranks.

    Raises:
        MetroFastError: If something else differs.
    """
    (first, one), *others = ((name, part[module]) for name, part in parts.items())
    for name, pair in others:
        ours, theirs = (
            (p.a.shape[1:], p.b.shape[:1] + p.b.shape[2:], p.groups) for p in (one, pair)
        )
        if ours != theirs:
            raise MetroFastError(
                f"{module} has A {pair.a.shape} and B {pair.b.shape} in expert {name}, "
                f"{one.a.shape} and {one.b.shape} in expert {first}: only their ranks may differ"
            )
    return [part[module] for part in parts.values()]


def lora_of(merged: Pairs, experts: Sequence[Expert], heads: dict[str, RawTensor]) -> TaskVector:
    """A task vector of factors whose product B A is the whole update, so that its scaling is 1.

    Args:
        merged: The factors, by module.
        experts: The experts that were merged. The first gives names and configuration, in which
            alpha and r become equal, without rank stabilization. If tensors hold the alphas of one
            of the experts, every module of the result has an alpha, equal to its rank.
        heads: Dense tensors of the result.
    """
    names = names_of_modules(experts[0])
    dense, config = dict(heads), None
    if experts[0].config is not None:
        ranks = {module_of(names[m].a): pair.a.shape[0] for m, pair in merged.items()}
        config = _config(parse_config(experts[0].config), ranks)
    else:
        every = [names, *map(names_of_modules, experts[1:])]
        like = next(((n.a, n.alpha) for ns in every for n in ns.values() if n.alpha), None)
        if like is not None:
            merged = _with_alphas(merged, names, like, dense)
    residuals: dict[str, Residual] = {}
    for module, pair in merged.items():
        residuals[names[module].a] = Residual(pair.a, "F32", "lora_A", "zero")
        residuals[names[module].b] = Residual(pair.b, "F32", "lora_B", "zero")
    ordered = {name: dense[name] for name in sorted(dense)}
    return TaskVector("lora", dict(sorted(residuals.items())), ordered, None, config)


def _with_alphas(
    merged: Pairs,
    names: Mapping[str, Names],
    like: tuple[str, str],
    dense: dict[str, RawTensor],
) -> Pairs:
    """Write an alpha for every module, since readers differ in what a missing one means.

    The alpha of a module is its rank. Modules that share an alpha (kohya's split projections) get
    the rank of the first, and B the rest of the factor.

    Args:
        merged: The factors, by module.
        names: Their names, by module.
        like: The names of a factor and an alpha, as examples for modules that have no alpha.
        dense: Receives the alphas.
    """
    values: dict[str, int] = {}
    found: Pairs = {}
    for module, pair in merged.items():
        name = names[module].alpha or alpha_name(names[module].a, like)
        rank = pair.a.shape[0]
        alpha = values.setdefault(name, rank)
        dense[name] = RawTensor("F32", np.array(alpha, np.float32))
        found[module] = pair if alpha == rank else Pair(pair.a, pair.b * np.float32(rank / alpha))
    return found


def names_of_modules(expert: Expert) -> dict[str, Names]:
    """The names of the factors and alphas of a LoRA expert, by module.

    Raises:
        MetroFastError: If a factor is without its partner.
    """
    names = [tensor.name for tensor in expert.manifest.tensors]
    names += [name for name in expert.dense if factor_of(name) is not None]
    alphas = {} if expert.config is not None else alphas_of([*names, *expert.dense])
    found: dict[str, Names] = {}
    for module, pair in modules(dict.fromkeys(names)).items():
        if len(pair) != 2:
            lone = factor_of(pair[0])
            lacking = "is not a factor of a pair" if lone is None else f"lacks {lone.partner}"
            raise MetroFastError(
                f"{pair[0]} {lacking}, so that its update B A is unknown: save the adapter whole, "
                "or merge with space='factors', which needs no pairs"
            )
        found[module] = Names(pair[0], pair[1], alphas.get(module))
    return found


def factors_of(expert: Expert) -> Pairs:
    """The factors and the scaling of each module of a LoRA expert.

    Raises:
        MetroFastError: If a factor is without its partner, or does not fit it.
    """
    scalings, tensors = scalings_of(expert), expert.arrays(np.float32)
    found: Pairs = {}
    for module, names in names_of_modules(expert).items():
        found[module] = Pair(tensors[names.a], tensors[names.b], scalings[module])
        found[module].check(names.a)
    return found


def _config(config: dict[str, Any], ranks: dict[str, int]) -> bytes:
    most = max(ranks.values())
    # PEFT matches a pattern with the end of a name, so that "q" is also found for "layer.q".
    other = {
        f"^{module}" if any(name.endswith(f".{module}") for name in ranks) else module: rank
        for module, rank in ranks.items()
        if rank != most
    }
    config |= {"r": most, "lora_alpha": most, "use_rslora": False}
    # The alphas equal the ranks, so that the scaling is 1 everywhere.
    config |= {"rank_pattern": other, "alpha_pattern": dict(other)}
    return json.dumps(config, indent=2, sort_keys=True).encode()
