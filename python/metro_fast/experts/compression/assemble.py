"""Making an expert of trits and scales: the one place that makes a file."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from metro_fast import _core
from metro_fast.experts.adapters.config_checksum import config_checksum
from metro_fast.experts.adapters.peft_folder import parse_config
from metro_fast.experts.adapters.updates import ModuleFidelity
from metro_fast.experts.compression.groups import Groups, Rule
from metro_fast.experts.compression.task_vector import TaskVector
from metro_fast.experts.expert import Expert
from metro_fast.experts.file.manifest import Base, DenseTensor, Manifest, TernaryTensor

_SIZE_STEPS = (2048, 4096, 8192, 16384)
"""The stream lengths that the size profile tries: long streams spend less on states, short ones
follow densities that differ between tensors."""


def pack_block(trits: NDArray[np.int8], profile: str, threads: int) -> NDArray[np.uint8]:
    """Pack trits; the size profile tries several stream lengths and keeps the smallest result."""
    steps = _SIZE_STEPS if profile == "size" else (None,)
    return min((_core.pack(trits, "t4", n, threads) for n in steps), key=len)


def assemble(
    vector: TaskVector,
    made: Groups,
    scope: str,
    rule: Rule,
    starts: Sequence[int],
    block: NDArray[np.uint8],
    estimate: Sequence[ModuleFidelity],
) -> Expert:
    """Make an expert of groups and a packed block, with the estimate of what was kept."""
    file = _core.encode_expert(
        manifest_of(vector, made, scope, rule, starts).to_json(),
        np.array(made.scales, np.float32),
        block,
        [tensor.bytes for tensor in vector.dense.values()],
    )
    expert = Expert(file, vector.config)
    expert.estimated_fidelity = tuple(estimate)
    return expert


def manifest_of(
    vector: TaskVector, made: Groups, scope: str, rule: Rule, starts: Sequence[int]
) -> Manifest:
    """The manifest of an expert; it depends on the shapes of the residuals, not on their values."""
    return Manifest(
        kind=vector.kind,
        scope=scope,
        alpha_rule="fixed" if rule.alpha is not None else "least_squares",
        base=_base(vector),
        groups=made.groups,
        tensors=tuple(
            TernaryTensor(name, r.dtype, r.values.shape, made.group_of[name], r.initial, start)
            for (name, r), start in zip(vector.residuals.items(), starts, strict=True)
        ),
        dense=tuple(
            DenseTensor(name, tensor.dtype, tensor.shape, _core.crc32c(tensor.bytes))
            for name, tensor in vector.dense.items()
        ),
        metadata=vector.metadata,
        config_crc32c=None if vector.config is None else config_checksum(vector.config),
    )


def _base(vector: TaskVector) -> Base:
    config = {} if vector.config is None else parse_config(vector.config)
    model, revision = config.get("base_model_name_or_path"), config.get("revision")
    return Base(
        model=None if model is None else str(model),
        revision=None if revision is None else str(revision),
        initial_crc32c=vector.initial_crc32c,
    )
