"""One expert of a pool: its bytes, and what every swap to it needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.peft_folder import CONFIG, kind_of, parse_config
from metro_fast.experts.adapters.roles import role_of
from metro_fast.experts.adapters.scaling import Scalings, module_of
from metro_fast.experts.expert import Expert
from metro_fast.experts.file.manifest import TernaryTensor
from metro_fast.experts.file.segments import Segments, segments_of
from metro_fast.experts.loading.settings import check_same_settings
from metro_fast.experts.loading.untie import check_tied
from metro_fast.experts.pool.arena import RANK_AXIS, Arena


@dataclass
class Entry:
    """An expert and its origin.

    Attributes:
        expert: The expert, whose bytes are checked; None after it was dropped from memory.
        path: The path from which it can be read again, or None.
        prepared: What the decoder prepared for swaps.
        nbytes: Bytes of its file.
    """

    expert: Expert | None
    path: Path | None
    prepared: Any
    nbytes: int


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
            f"bias is {config['bias']!r}: the expert replaces biases of the base, which a pool "
            "leaves as they are, so use load_expert"
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
    found = {tensor.name: tensor.shape for tensor in expert.manifest.tensors}
    heads = {tensor.name: tensor.shape for tensor in expert.manifest.dense}
    for name in sorted(set(found) | set(arena.shapes) | set(heads) | set(arena.dense)):
        ours = found.get(name, heads.get(name))
        theirs = arena.shapes.get(name, arena.dense.get(name))
        if not _fits(name, ours, theirs):
            raise MetroFastError(_misfit(name, ours, theirs))

    places = {name: arena.parameters[name].data for name in heads}
    check_tied(places, {name: tensor.torch() for name, tensor in expert.dense.items()})

    scalings = Scalings(config)

    def factor(tensor: TernaryTensor) -> float:
        if role_of(tensor.name) != "lora_B":
            return 1.0
        ours, theirs = _scaling(scalings, tensor), scaling[tensor.name]
        if theirs == 0 and ours != 0:
            raise MetroFastError(
                f"the first expert of the pool scales {module_of(tensor.name)} by 0 (lora_alpha), "
                f"so that no B there gives {ours:g}: make the pool with another expert first"
            )
        ratio = ours / theirs if theirs else 1.0
        if config.get("lora_bias") and ratio != 1:
            raise MetroFastError(
                f"lora_bias is set, and the expert scales {module_of(tensor.name)} otherwise than "
                "the experts of the pool, which would scale its bias wrong: use another pool"
            )
        return ratio

    return segments_of(expert.manifest, expert.scales, factor=factor, own_dtype=True)


def _scaling(scalings: Scalings, b: TernaryTensor) -> float:
    """The factor of B A according to the configuration, which must have the rank of B."""
    module = module_of(b.name)
    rank, factor = scalings.rank(module), scalings.scaling(module)
    if rank != b.shape[RANK_AXIS["lora_B"]]:
        raise MetroFastError(
            f"{b.name} has rank {b.shape[RANK_AXIS['lora_B']]}, but {CONFIG} says {rank}: the two "
            "files are not of one adapter"
        )
    return factor


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


def _fits(name: str, ours: tuple[int, ...] | None, theirs: tuple[int, ...] | None) -> bool:
    """Whether two shapes are equal, or differ only in the rank, and ours is lower."""
    if ours == theirs:
        return True
    axis = RANK_AXIS.get(role_of(name) or "")
    if axis is None or ours is None or theirs is None or len(ours) != len(theirs):
        return False
    rest = [o == t for i, (o, t) in enumerate(zip(ours, theirs, strict=True)) if i != axis]
    return all(rest) and ours[axis] < theirs[axis]
