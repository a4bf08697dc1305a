"""From an adapter or a state dict to a compressed expert."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metro_fast import _core
from metro_fast.errors import MetroFastError
from metro_fast.experts.expert import Expert
from metro_fast.experts.fidelity import erased_modules
from metro_fast.experts.manifest import (
    Base,
    DenseTensor,
    Group,
    Manifest,
    TernaryTensor,
    layout,
)
from metro_fast.experts.peft_folder import Adapter, parse_config
from metro_fast.experts.source import read_source
from metro_fast.experts.task_vector import Residual, TaskVector, task_vector
from metro_fast.experts.updates import ERASED_COSINE, estimate_updates
from metro_fast.ops.draws import resolve_threads
from metro_fast.ops.ternarize import CHUNK, native_alpha
from metro_fast.ops.unpack import FLOAT16_OVERFLOW

SCOPES = ("role", "global", "tensor")


def compress(
    source: Any,
    *,
    density: float = 0.2,
    alpha: float | str = 1.0,
    scope: str = "role",
    kind: str | None = None,
    initial: Mapping[str, Any] | None = None,
    num_threads: int | None = None,
) -> Expert:
    """Compress an adapter by ComPEFT (arXiv 2311.13171): sparse signs and a scale a group.

    Args:
        source: Path of a PEFT folder, a PeftModel (its active adapter), or a state dict: name to
            numpy array or torch tensor.
        density: Share of each group's entries to keep, in (0, 1].
        alpha: The scale in standard deviations of the group, or `"least_squares"`. The paper's
            choice without validation data is 1 for bases of 13B and more at densities up to 0.2;
            smaller ones want more, and least squares is 1.2 to 2.8 by density on real adapters.
        scope: What is ranked together and shares a scale: `"role"` (all A, all B), `"global"`
            (the paper's code; it can erase B, since A is larger) or `"tensor"`.
        kind: What a state dict without PEFT's names is: full, ia3, prompt or other.
        initial: Values to take off first, by name; see `task_vector`.
        num_threads: Threads to use; the machine's cores by default. The bytes do not depend on it.

    Returns:
        The expert. `fidelity` tells how well each module's update is kept.

    Warns:
        UserWarning: If a group or a module's update is erased; the message names it.

    Raises:
        FileNotFoundError: If there is no adapter at that path.
        FormatError: If a file of it is damaged.
        TypeError: If a tensor or an argument has the wrong type.
        MetroFastError: If an argument is out of range, an entry is NaN or infinite, a scale is
            too large for a float16 tensor, or the adapter is of a kind that cannot be compressed.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> a, b = (rng.standard_normal((8, 512)).astype(np.float32) for _ in "AB")
        >>> expert = compress({"q.lora_A.weight": a, "q.lora_B.weight": b.T}, density=0.2)
        >>> [group.name for group in expert.manifest.groups]
        ['lora_A', 'lora_B']
    """
    if scope not in SCOPES:
        raise MetroFastError(f"scope is {scope!r}, expected one of {', '.join(SCOPES)}")
    native = native_alpha(alpha)
    adapter, state = read_source(source)
    if adapter is not None and kind not in (None, adapter.kind):
        raise MetroFastError(f"kind is {kind!r}, but the adapter's is {adapter.kind!r}")
    vector = task_vector(state, kind=adapter.kind if adapter is not None else kind, initial=initial)
    starts, count = layout([residual.values.size for residual in vector.residuals.values()])
    threads = resolve_threads(num_threads, count, CHUNK)
    trits = np.zeros(count, np.int8)
    members = _members(vector, scope)
    groups, scales, lost = _ternarize(
        vector, members, starts, trits, density=density, alpha=native, threads=threads
    )
    for name, entries in lost.items():
        warnings.warn(
            f"group {name} is erased: nothing of its {entries} entries is kept at density "
            f"{density}, or all are equal",
            stacklevel=2,
        )
    group_of = {t: i for i, tensors in enumerate(members.values()) for t in tensors}
    manifest = Manifest(
        kind=vector.kind,
        scope=scope,
        alpha_rule="fixed" if native is not None else "least_squares",
        base=_base(adapter, vector),
        groups=tuple(groups),
        tensors=tuple(
            TernaryTensor(name, r.dtype, r.values.shape, group_of[name], r.initial, start)
            for (name, r), start in zip(vector.residuals.items(), starts, strict=True)
        ),
        dense=tuple(
            DenseTensor(name, tensor.dtype, tensor.shape, _core.crc32c(tensor.bytes))
            for name, tensor in vector.dense.items()
        ),
    )
    file = _core.encode_expert(
        manifest.to_json(),
        np.array(scales, np.float32),
        _core.pack(trits, "t4", None, threads),
        [tensor.bytes for tensor in vector.dense.values()],
    )
    expert = Expert(file, None if adapter is None else adapter.config)
    flat = [residual.values.reshape(-1) for residual in vector.residuals.values()]
    sums = _core.agreement(flat, starts, trits, threads)
    expert.estimated_fidelity = tuple(
        estimate_updates(
            dict(zip(vector.residuals, sums, strict=True)),
            {name: scales[group] for name, group in group_of.items()},
        )
    )
    # A group that is gone has been named already, and all its modules with it.
    erased = [] if lost else erased_modules(vector, expert)
    if erased:
        more = f" and {len(erased) - 3} more" if len(erased) > 3 else ""
        warnings.warn(
            f"the update of {', '.join(erased[:3])}{more} is erased (cosine below "
            f"{ERASED_COSINE}): raise density, or try another scope",
            stacklevel=2,
        )
    return expert


def _members(vector: TaskVector, scope: str) -> dict[str, list[str]]:
    """Names of each group's tensors; groups in ascending order of names."""
    members: dict[str, list[str]] = {}
    for name, residual in vector.residuals.items():
        group = {"role": residual.role, "global": "global", "tensor": name}[scope]
        members.setdefault(group, []).append(name)
    return {group: members[group] for group in sorted(members)}


def _ternarize(
    vector: TaskVector,
    members: Mapping[str, list[str]],
    starts: list[int],
    trits: NDArray[np.int8],
    *,
    density: float,
    alpha: float | None,
    threads: int,
) -> tuple[list[Group], list[float], dict[str, int]]:
    """Fill `trits` group by group.

    Returns:
        The groups, their scales, and the entries of each group of which nothing is left.
    """
    start_of = dict(zip(vector.residuals, starts, strict=True))
    groups: list[Group] = []
    scales: list[float] = []
    lost: dict[str, int] = {}
    for name, tensors in members.items():
        parts = [(t, vector.residuals[t].values.reshape(-1)) for t in tensors]
        places = [start_of[t] for t in tensors]
        scale, std, kept, _ = _core.ternarize(parts, places, trits, density, alpha, threads)
        _refuse_infinity(scale, [(t, vector.residuals[t]) for t in tensors])
        if (kept == 0 or scale == 0) and any(values.any() for _, values in parts):
            lost[name] = sum(values.size for _, values in parts)
        # For people, so rounded: the scale itself is in the file.
        found = round(scale / std, 4) if std > 0 else 0.0
        groups.append(Group(name, float(density), found if alpha is None else alpha))
        scales.append(scale)
    return groups, scales, lost


def _refuse_infinity(scale: float, residuals: list[tuple[str, Residual]]) -> None:
    """Of the three dtypes float16 alone is too small for a float32 scale, with 1 added in IA3."""
    for name, residual in residuals:
        if residual.dtype == "F16" and scale + (residual.initial == "one") >= FLOAT16_OVERFLOW:
            raise MetroFastError(
                f"{name} is float16, which holds no scale of {scale:g} (at most 65504): lower "
                "alpha, or convert the adapter to bfloat16"
            )


def _base(adapter: Adapter | None, vector: TaskVector) -> Base:
    config = {} if adapter is None else parse_config(adapter.config)
    model, revision = config.get("base_model_name_or_path"), config.get("revision")
    return Base(
        model=None if model is None else str(model),
        revision=None if revision is None else str(revision),
        initial_crc32c=vector.initial_crc32c,
    )
