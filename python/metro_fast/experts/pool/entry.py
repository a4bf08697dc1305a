"""One expert of a pool: its bytes, and what every swap to it needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.peft_folder import kind_of, parse_config
from metro_fast.experts.adapters.roles import role_of
from metro_fast.experts.adapters.scaling import lora_scaling, module_of
from metro_fast.experts.expert import Expert
from metro_fast.experts.file.manifest import TernaryTensor
from metro_fast.experts.file.segments import Segments, segments_of
from metro_fast.experts.pool.arena import RANK_AXIS, Arena

_MUST_EQUAL = ("peft_type", "target_modules", "feedforward_modules", "fan_in_fan_out")


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
    for key in _MUST_EQUAL:
        ours, theirs = _comparable(config.get(key)), _comparable(resident.get(key))
        if ours != theirs:
            raise MetroFastError(
                f"{key} is {ours}, but the experts of the pool have {theirs}: use another pool for "
                "this expert"
            )
    found = {tensor.name: tensor.shape for tensor in expert.manifest.tensors}
    heads = {tensor.name: tensor.shape for tensor in expert.manifest.dense}
    for name in sorted(set(found) | set(arena.shapes) | set(heads) | set(arena.dense)):
        ours = found.get(name, heads.get(name))
        theirs = arena.shapes.get(name, arena.dense.get(name))
        if not _fits(name, ours, theirs):
            raise MetroFastError(
                f"{name} has shape {ours}, in the pool's adapter {theirs}: an expert must have the "
                "modules of the pool's first expert and at most its rank; use another pool for "
                "this expert, or add the expert of highest rank first"
            )

    def factor(tensor: TernaryTensor) -> float:
        if role_of(tensor.name) != "lora_B":
            return 1.0
        return lora_scaling(config, module_of(tensor.name)) / scaling[tensor.name]

    return segments_of(expert.manifest, expert.scales, factor=factor, own_dtype=True)


def _fits(name: str, ours: tuple[int, ...] | None, theirs: tuple[int, ...] | None) -> bool:
    """Whether two shapes are equal, or differ only in the rank, and ours is lower."""
    if ours == theirs:
        return True
    axis = RANK_AXIS.get(role_of(name) or "")
    if axis is None or ours is None or theirs is None or len(ours) != len(theirs):
        return False
    rest = [o == t for i, (o, t) in enumerate(zip(ours, theirs, strict=True)) if i != axis]
    return all(rest) and ours[axis] < theirs[axis]


def _comparable(value: Any) -> Any:
    return sorted(value) if isinstance(value, list | set) else value
