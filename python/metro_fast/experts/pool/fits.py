"""Whether an expert fits the adapter of a pool, and the values that its trits have there."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from metro_fast._shown import shown
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.peft_folder import CONFIG, kind_of, parse_config
from metro_fast.experts.adapters.roles import role_of
from metro_fast.experts.adapters.scaling import Scalings, module_of
from metro_fast.experts.adapters.tensors import RawTensor
from metro_fast.experts.expert import Expert
from metro_fast.experts.file.manifest import TernaryTensor
from metro_fast.experts.file.segments import Segments, segments_of
from metro_fast.experts.loading.settings import check_same_settings
from metro_fast.experts.loading.untie import check_tied
from metro_fast.experts.pool.arena import RANK_AXIS, Arena

Shapes = Mapping[str, tuple[int, ...]]


def config_of(expert: Expert) -> dict[str, Any]:
    """The adapter's configuration.

    Raises:
        MetroFastError: If the expert is not a PEFT adapter that a pool supports.
    """
    if expert.config is None:
        raise MetroFastError(
            "the expert has no adapter_config.json, but a pool only holds PEFT adapters: use its "
            "state_dict()"
        )
    config = parse_config(expert.config)
    kind = kind_of(config)
    if kind not in ("lora", "ia3"):
        raise MetroFastError(
            f"the expert has kind {kind!r}, expected lora or ia3: use load_expert for prompts"
        )
    if config.get("bias", "none") != "none":
        raise MetroFastError(
            f"bias is {shown(repr(config['bias']))}: the expert replaces biases of "
            "the base, which a pool leaves as they are, so use load_expert"
        )
    if expert.manifest.needs_initial:
        raise MetroFastError(
            "the expert was compressed with initial=..., which a pool does not keep: compress it "
            "without initial=, or use its state_dict(initial=...)"
        )
    return config


def fitted_segments(
    expert: Expert, arena: Arena, scaling: Mapping[str, float], resident: Mapping[str, Any]
) -> Segments:
    """Check that an expert fits the arena, and compute the values of its trits there.

    Args:
        expert: The expert.
        arena: The arena of the model.
        scaling: The factor by which the model multiplies B A, by the name of B.
        resident: The configuration of the adapter in the model.

    Raises:
        MetroFastError: If it does not fit; the message names the tensor or the option.
    """
    config = config_of(expert)
    check_same_settings(config, resident)
    ternary = {tensor.name: tensor.shape for tensor in expert.manifest.tensors}
    dense = {tensor.name: tensor.shape for tensor in expert.manifest.dense}
    for name in sorted(set(ternary) | set(arena.shapes) | set(dense) | set(arena.dense)):
        _check_kind(name, arena, ternary, dense)
        for ours, theirs in ((ternary, arena.shapes), (dense, arena.dense)):
            if not _fits(name, ours.get(name), theirs.get(name), padded=ours is ternary):
                raise MetroFastError(_misfit(name, ours.get(name), theirs.get(name)))

    places = {name: arena.parameters[name].data for name in dense}
    heads = {name: tensor.torch() for name, tensor in expert.dense.items()}
    for name, head in heads.items():
        if head.is_floating_point() != places[name].is_floating_point():
            raise MetroFastError(
                f"{name} has dtype {head.dtype} in the expert, {places[name].dtype} in the model: "
                "the two are not weights of one kind, so compress the adapter again"
            )
    check_tied(places, heads)
    scalings = Scalings(config)
    for tensor in expert.manifest.tensors:
        _check_rank(scalings, tensor)

    def factor(tensor: TernaryTensor) -> float:
        if role_of(tensor.name) != "lora_B":
            return 1.0
        ours, theirs = scalings.scaling(module_of(tensor.name)), scaling[tensor.name]
        if theirs == 0 and ours != 0:
            raise MetroFastError(
                f"the pool's adapter scales {module_of(tensor.name)} by 0 (lora_alpha), so that no "
                f"B there gives {ours:g}: make the pool with another expert first"
            )
        ratio = ours / theirs if theirs else 1.0
        if config.get("lora_bias") and ratio != 1:
            raise MetroFastError(
                f"lora_bias is set, and the expert scales {module_of(tensor.name)} otherwise than "
                "the experts of the pool, which would scale its bias wrong: use another pool"
            )
        return ratio

    segments = segments_of(expert.manifest, expert.scales, factor=factor, own_dtype=True)
    _check_finite(expert, segments, arena.dtype)
    return segments


def check_scaling(scaling: Mapping[str, float]) -> None:
    """Check that other experts can be folded into the adapter of a pool's first expert.

    Args:
        scaling: The factor by which the model multiplies B A, by the name of B.

    Raises:
        MetroFastError: If a module is scaled by 0, or by no finite number.
    """
    for name, factor in scaling.items():
        if factor == 0 or not math.isfinite(factor):
            raise MetroFastError(
                f"the first expert of the pool scales {module_of(name)} by {factor:g} "
                "(lora_alpha): add another expert first, since no other scaling could be folded "
                "into this one"
            )


def _check_kind(name: str, arena: Arena, ternary: Shapes, dense: Shapes) -> None:
    """Check that a tensor is not ternary in one expert and whole in the other."""
    for mine, theirs, kinds in (
        (ternary, arena.dense, ("ternary", "whole")),
        (dense, arena.shapes, ("whole", "ternary")),
    ):
        if name in mine and name in theirs:
            raise MetroFastError(
                f"{name} is {kinds[0]} in the expert and {kinds[1]} in the pool's first: compress "
                "both with the same dense=, or use another pool for this expert"
            )


def _check_finite(expert: Expert, segments: Segments, dtype: str) -> None:
    """Check that the values of trits, with the factor folded in, are numbers of the dtype."""
    with np.errstate(over="ignore"):
        values = RawTensor.rounded(segments.values, dtype).float32()
    for tensor, row in zip(expert.manifest.tensors, values, strict=True):
        if not np.isfinite(row).all():
            raise MetroFastError(
                f"{tensor.name} has values that the adapter's dtype {dtype} cannot hold, once its "
                "scaling (lora_alpha / r) is that of the pool: use another pool for this expert, "
                "or load the model in a wider dtype"
            )


def _check_rank(scalings: Scalings, tensor: TernaryTensor) -> None:
    """Check that the configuration has the rank of a factor, since alpha is divided by it."""
    axis = RANK_AXIS.get(role_of(tensor.name) or "")
    if axis is None:
        return
    rank = scalings.rank(module_of(tensor.name))
    if rank != tensor.shape[axis]:  # the shapes fit by now, so there is such an axis
        raise MetroFastError(
            f"{tensor.name} has rank {tensor.shape[axis]}, but {CONFIG} says {rank}: the two files "
            "are not of one adapter"
        )


def _misfit(name: str, ours: tuple[int, ...] | None, theirs: tuple[int, ...] | None) -> str:
    other = "use another pool for this expert"
    if ours is None or theirs is None:
        where = "the expert lacks" if ours is None else "only the expert has"
        return f"{where} {name}: an expert must have the modules of the pool's first; {other}"
    return (
        f"{name} has shape {ours}, in the pool's adapter {theirs}: an expert must have the modules "
        f"of the pool's first expert and at most its rank; {other}, or add the expert of highest "
        "rank first"
    )


def _fits(
    name: str, ours: tuple[int, ...] | None, theirs: tuple[int, ...] | None, *, padded: bool
) -> bool:
    """Whether two shapes are equal, or differ only in the rank, and ours is lower."""
    if ours == theirs:
        return True
    axis = RANK_AXIS.get(role_of(name) or "")
    if not padded or axis is None or ours is None or theirs is None or len(ours) != len(theirs):
        return False
    rest = [o == t for i, (o, t) in enumerate(zip(ours, theirs, strict=True)) if i != axis]
    return all(rest) and ours[axis] < theirs[axis]
