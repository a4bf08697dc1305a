"""From an adapter or a state dict to a compressed expert."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from metro_fast import _core
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.peft_folder import parse_config
from metro_fast.experts.adapters.updates import (
    ERASED_COSINE,
    ModuleFidelity,
    erased_modules,
    estimate_updates,
)
from metro_fast.experts.compression.groups import Groups, Rule, ternarize_groups
from metro_fast.experts.compression.source import read_initial, read_source
from metro_fast.experts.compression.task_vector import TaskVector, task_vector
from metro_fast.experts.expert import Expert
from metro_fast.experts.file.manifest import Base, DenseTensor, Manifest, TernaryTensor, layout
from metro_fast.ops.draws import resolve_threads
from metro_fast.ops.ternarize import CHUNK, native_alpha

SCOPES = ("role", "global", "tensor")
QUANTIZERS = ("compeft", "stc", "sign", "prune")
PROFILES = ("default", "size")

_SIZE_STEPS = (2048, 4096, 8192, 16384)
"""What the size profile tries: long streams spend less on states, short ones follow densities that
differ from tensor to tensor."""


@overload
def compress(
    source: Any,
    *,
    quantize: Literal["prune"],
    density: float | None = None,
    alpha: None = None,
    scope: str = "role",
    kind: str | None = None,
    initial: Mapping[str, Any] | str | Path | None = None,
    dense: Sequence[str] = (),
    upstream: bool = False,
    profile: str = "default",
    num_threads: int | None = None,
) -> TaskVector: ...


@overload
def compress(
    source: Any,
    *,
    quantize: Literal["compeft", "stc", "sign"] = "compeft",
    density: float | None = None,
    alpha: float | str | None = None,
    scope: str = "role",
    kind: str | None = None,
    initial: Mapping[str, Any] | str | Path | None = None,
    dense: Sequence[str] = (),
    upstream: bool = False,
    profile: str = "default",
    num_threads: int | None = None,
) -> Expert: ...


def compress(
    source: Any,
    *,
    quantize: str = "compeft",
    density: float | None = None,
    alpha: float | str | None = None,
    scope: str = "role",
    kind: str | None = None,
    initial: Mapping[str, Any] | str | Path | None = None,
    dense: Sequence[str] = (),
    upstream: bool = False,
    profile: str = "default",
    num_threads: int | None = None,
) -> Expert | TaskVector:
    """Compress an adapter by ComPEFT (arXiv 2311.13171): sparse signs and a scale a group.

    Args:
        source: A PEFT folder, a PeftModel (its active adapter), a state dict (name to numpy array
            or torch tensor), a file of one (.safetensors, .bin, .pt, .pth, .npy), a folder with a
            model of transformers (`kind="full"`), or a `TaskVector`.
        quantize: What the kept entries become. `"compeft"`: their signs times alpha standard
            deviations. `"stc"`: their signs times their mean magnitude, which is the scale of least
            squared error. `"sign"`: nothing is pruned, and every entry becomes its sign times the
            mean magnitude of those that are not zero (BitDelta without its training). `"prune"`:
            they keep their values; that is not ternary, so the result is a `TaskVector`.
        density: Share of each group's entries to keep, in (0, 1]; 0.2 if not given, and 1 for sign.
        alpha: Of compeft, the scale in standard deviations of the group, or `"least_squares"`,
            which is the same as stc; 1 if not given. The paper's choice without validation data
            is 1 for bases of 13B and more at densities up to 0.2; smaller ones want more, and least
            squares is 1.2 to 2.8 by density on real adapters.
        scope: What is ranked together and shares a scale: `"role"` (all A, all B), `"global"`
            (the paper's code; it can erase B, since A is larger) or `"tensor"`.
        kind: What a state dict is whose names do not tell: lora, ia3, prompt, full or other.
        initial: Values to take off first, by name, or the path of a file or folder of them; see
            `task_vector`.
        dense: Names or patterns of tensors to keep whole; see `task_vector`.
        upstream: Do as the published code does: keep floor(d * density) + 1 entries and every tie
            (and for stc scale by the mean of the kept entries with their signs, which is near 0).
            For comparisons only; where that code crashes, on vectors of one entry or of too few
            nonzeros, this keeps what is there.
        profile: `"size"` tries longer and shorter streams and keeps the smallest file; it decodes
            with less parallelism.
        num_threads: Threads to use; the machine's cores by default. The bytes do not depend on it.

    Returns:
        The expert, or the pruned task vector. `fidelity` tells how well each module's update is
        kept.

    Warns:
        UserWarning: If a group or a module's update is erased; the message names it.

    Raises:
        FileNotFoundError: If there is no adapter at that path.
        FormatError: If a file of it is damaged.
        TypeError: If a tensor or an argument has the wrong type.
        MetroFastError: If an argument is out of range or belongs to another `quantize`, an entry
            is NaN or infinite, a scale is too large for a float16 tensor, or the adapter is of a
            kind that cannot be compressed.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> a, b = (rng.standard_normal((8, 512)).astype(np.float32) for _ in "AB")
        >>> state = {"q.lora_A.weight": a, "q.lora_B.weight": b.T}
        >>> expert = compress(state, density=0.2)
        >>> [group.name for group in expert.manifest.groups]
        ['lora_A', 'lora_B']
        >>> pruned = compress(state, quantize="prune", density=0.2)
        >>> int(np.count_nonzero(pruned.residuals["q.lora_A.weight"].values))
        819
    """
    rule = read_rule(quantize, density, alpha, upstream=upstream)
    for name, value, known in (("scope", scope, SCOPES), ("profile", profile, PROFILES)):
        if value not in known:
            raise MetroFastError(f"{name} is {value!r}, expected one of {', '.join(known)}")
    vector = read_vector(source, kind, read_initial(initial), dense)
    starts, count = layout([residual.values.size for residual in vector.residuals.values()])
    threads = resolve_threads(num_threads, count, CHUNK)
    trits = np.zeros(count, np.int8)
    made = ternarize_groups(vector, scope, rule, starts, trits, threads)
    warn_of_lost(made, rule, 3)
    if quantize == "prune":
        return _pruned(vector, starts, trits)
    expert = _expert(vector, made, scope, rule, starts, trits, profile, threads)
    # A group that is gone has been named already, and all its modules with it.
    erased = [] if made.lost else _erased(vector, expert, starts, trits)
    warn_of_erased(erased, 3)
    return expert


def warn_of_lost(made: Groups, rule: Rule, stacklevel: int) -> None:
    """Name the groups of which nothing is left."""
    for name, entries in made.lost.items():
        warnings.warn(
            f"group {name} is erased: nothing of its {entries} entries is kept at density "
            f"{rule.density}, or all are equal",
            stacklevel=stacklevel,
        )


def warn_of_erased(erased: Sequence[str], stacklevel: int) -> None:
    """Name the modules whose update is erased."""
    if erased:
        more = f" and {len(erased) - 3} more" if len(erased) > 3 else ""
        warnings.warn(
            f"the update of {', '.join(erased[:3])}{more} is erased (cosine below "
            f"{ERASED_COSINE}): raise density, or try another scope",
            stacklevel=stacklevel,
        )


def read_rule(
    quantize: str, density: float | None, alpha: float | str | None, *, upstream: bool
) -> Rule:
    """What the arguments of `compress` say of each group.

    Raises:
        TypeError: If alpha is neither a number nor a known rule.
        MetroFastError: If they do not go together.
    """
    if quantize not in QUANTIZERS:
        raise MetroFastError(f"quantize is {quantize!r}, expected one of {', '.join(QUANTIZERS)}")
    if quantize != "compeft" and alpha is not None:
        raise MetroFastError(
            f"alpha is {alpha!r}, but quantize={quantize!r} finds its scale itself: leave it out"
        )
    if quantize == "sign":
        if upstream or density not in (None, 1):
            what = "upstream is True" if upstream else f"density is {density}"
            raise MetroFastError(f"{what}, but quantize='sign' keeps every entry: leave it out")
        density = 1.0
    least_squares = quantize in ("stc", "sign")
    native = None if least_squares else native_alpha(1.0 if alpha is None else alpha)
    return Rule(0.2 if density is None else density, native, upstream)


def read_vector(
    source: Any,
    kind: str | None = None,
    initial: Mapping[str, Any] | None = None,
    dense: Sequence[str] = (),
) -> TaskVector:
    """The task vector of anything that `compress` takes, with its arguments and errors."""
    if isinstance(source, TaskVector):
        if kind not in (None, source.kind) or initial is not None or dense:
            raise MetroFastError("a TaskVector has its kind, initial and dense tensors already")
        return source
    adapter, state = read_source(source)
    if adapter is None:
        return task_vector(state, kind=kind, initial=initial, dense=dense)
    if kind not in (None, adapter.kind):
        raise MetroFastError(f"kind is {kind!r}, but the adapter's is {adapter.kind!r}")
    vector = task_vector(state, kind=adapter.kind, initial=initial, dense=dense)
    return replace(vector, config=adapter.config)


def _pruned(vector: TaskVector, starts: list[int], trits: NDArray[np.int8]) -> TaskVector:
    """The vector with what was not kept set to 0."""
    residuals = {}
    for (name, residual), start in zip(vector.residuals.items(), starts, strict=True):
        kept = trits[start : start + residual.values.size].reshape(residual.values.shape) != 0
        values = np.where(kept, residual.values, np.float32(0))
        residuals[name] = replace(residual, values=values)
    return replace(vector, residuals=residuals)


def _expert(
    vector: TaskVector,
    made: Groups,
    scope: str,
    rule: Rule,
    starts: list[int],
    trits: NDArray[np.int8],
    profile: str,
    threads: int,
) -> Expert:
    manifest = manifest_of(vector, made, scope, rule, starts)
    blocks = (
        _core.pack(trits, "t4", steps, threads)
        for steps in (_SIZE_STEPS if profile == "size" else (None,))
    )
    file = _core.encode_expert(
        manifest.to_json(),
        np.array(made.scales, np.float32),
        min(blocks, key=len),
        [tensor.bytes for tensor in vector.dense.values()],
    )
    expert = Expert(file, vector.config)
    expert.estimated_fidelity = fidelity_of(vector, made)
    return expert


def fidelity_of(vector: TaskVector, made: Groups) -> tuple[ModuleFidelity, ...]:
    """The estimate that comes with compressing, module by module."""
    products = {name: made.products[name] for name in vector.residuals}
    scales = {name: made.scales[group] for name, group in made.group_of.items()}
    return tuple(estimate_updates(products, scales))


def manifest_of(
    vector: TaskVector, made: Groups, scope: str, rule: Rule, starts: list[int]
) -> Manifest:
    """What the file says of itself; of the residuals only shapes are looked at."""
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
    )


def _erased(
    vector: TaskVector, expert: Expert, starts: list[int], trits: NDArray[np.int8]
) -> list[str]:
    before = {name: residual.values for name, residual in vector.residuals.items()}
    after = {
        name: trits[start : start + values.size].reshape(values.shape)
        for (name, values), start in zip(before.items(), starts, strict=True)
    }
    return erased_modules(before, after, expert.estimated_fidelity)


def _base(vector: TaskVector) -> Base:
    config = {} if vector.config is None else parse_config(vector.config)
    model, revision = config.get("base_model_name_or_path"), config.get("revision")
    return Base(
        model=None if model is None else str(model),
        revision=None if revision is None else str(revision),
        initial_crc32c=vector.initial_crc32c,
    )
