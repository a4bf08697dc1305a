"""Compression of an adapter or a state dict to an expert."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.experts.compression.assemble import assemble, pack_block
from metro_fast.experts.compression.groups import ternarize_groups
from metro_fast.experts.compression.kept import Kept
from metro_fast.experts.compression.lost import warn_of_erased, warn_of_lost
from metro_fast.experts.compression.rules import PROFILES, SCOPES, check_choice, read_rule
from metro_fast.experts.compression.source import read_initial, read_source
from metro_fast.experts.compression.task_vector import TaskVector, task_vector
from metro_fast.experts.expert import Expert
from metro_fast.experts.file.manifest import layout
from metro_fast.ops.draws import resolve_threads
from metro_fast.ops.ternarize import CHUNK


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
    """Compress an adapter by ComPEFT (arXiv 2311.13171): sparse signs, and one scale per group.

    Args:
        source: A PEFT folder, a model with an adapter (what its own `save_pretrained` writes of
            the active one, diffusers' `save_lora_adapter`), a state dict (name to numpy array or
            torch tensor), a file with one (.safetensors, .bin, .pt, .pth, .npy), a folder with a
            model of transformers (`kind="full"`), or a `TaskVector`. A file that is named is the
            one that is read; the metadata of a safetensors file is kept (`Expert.metadata`).
        quantize: What becomes of the entries that are kept. `"compeft"`: their signs times a
            scale, see `alpha`. `"stc"`: their signs times their mean magnitude, which is the scale
            of least squared error. `"sign"`: nothing is pruned, and every entry becomes its sign
            times the mean magnitude of those that are not zero (BitDelta without its training).
            `"prune"`: they keep their values; that is not ternary, so the result is a `TaskVector`.
        density: The share of each group's entries to keep, in (0, 1]; 0.2 by default, 1 for sign.
        alpha: For compeft, the scale in standard deviations of the group, or `"least_squares"`, as
            by default, which is the same as stc (with `upstream`, 1 by default). Least squares
            gives 0.7 to 2.8 by density on real adapters. The paper's choice without validation data
            is `alpha=1.0`, for bases of 13B and more at densities up to 0.2; the update of a LoRA
            then has a fifth of its length at 0.2.
        scope: The tensors that are ranked together and share a scale: `"role"` (all A, all B),
            `"global"` (as in the paper's code; it can erase B, since A is larger) or `"tensor"`.
        kind: lora, ia3, prompt, full or other, for a state dict whose names do not say it.
        initial: Values to subtract first, by name, or the path of a file or folder with them; see
            `task_vector`.
        dense: Names or patterns of tensors to keep whole; see `task_vector`.
        upstream: Whether to do what the published code does: keep floor(d * density) + 1 entries
            and every tie (and for stc scale by the mean of the kept entries with their signs, which
            is near 0). This is meant for comparisons; where that code crashes, on vectors with one
            entry or too few nonzeros, the entries that exist are kept.
        profile: `"size"` tries longer and shorter streams and keeps the smallest file, which is
            decoded with less parallelism.
        num_threads: Threads to use; the machine's cores by default. The bytes do not depend on it.

    Returns:
        The expert, or the pruned task vector. `fidelity` measures how well each module's update is
        kept.

    Warns:
        UserWarning: If a group or a module's update is erased; the message names it.

    Raises:
        FileNotFoundError: If there is no adapter at that path.
        FormatError: If one of its files is damaged.
        TypeError: If a tensor or an argument has the wrong type.
        MetroFastError: If an argument is out of range or belongs to another `quantize`, an entry
            is NaN or infinite, a scale is too large for a float16 tensor, the adapter is of a kind
            that cannot be compressed, or its tensors are shards that were not gathered.

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
    check_choice("scope", scope, SCOPES)
    check_choice("profile", profile, PROFILES)
    vector = read_vector(source, kind, read_initial(initial), dense)
    starts, count = layout([residual.values.size for residual in vector.residuals.values()])
    threads = resolve_threads(num_threads, count, CHUNK)
    trits = np.zeros(count, np.int8)
    made = ternarize_groups(vector, scope, rule, starts, trits, threads)
    warn_of_lost(made, rule, 3)
    if quantize == "prune":
        return _pruned(vector, starts, trits)
    kept = Kept(vector, starts, trits)
    estimate = kept.estimate(made)
    block = pack_block(trits, profile, threads)
    expert = assemble(vector, made, scope, rule, starts, block, estimate)
    # A group that is erased has been named already, and all its modules with it.
    warn_of_erased([] if made.lost else kept.erased(estimate), 3)
    return expert


def read_vector(
    source: Any,
    kind: str | None = None,
    initial: Mapping[str, Any] | None = None,
    dense: Sequence[str] = (),
) -> TaskVector:
    """The task vector of a source; arguments and errors are those of `compress`."""
    if isinstance(source, TaskVector):
        if kind not in (None, source.kind) or initial is not None or dense:
            raise MetroFastError(
                "a TaskVector already has its kind, initial values and dense tensors: leave out "
                "kind=, initial= and dense="
            )
        return source
    adapter, state = read_source(source)
    if adapter is None:
        return task_vector(state, kind=kind, initial=initial, dense=dense)
    if kind not in (None, adapter.kind):
        raise MetroFastError(f"kind is {quoted(kind)}, but the adapter's is {quoted(adapter.kind)}")
    vector = task_vector(state, kind=adapter.kind, initial=initial, dense=dense)
    return replace(vector, config=adapter.config)


def _pruned(vector: TaskVector, starts: list[int], trits: NDArray[np.int8]) -> TaskVector:
    """The vector with 0 for the entries that were not kept."""
    residuals = {}
    for (name, residual), start in zip(vector.residuals.items(), starts, strict=True):
        kept = trits[start : start + residual.values.size].reshape(residual.values.shape) != 0
        values = np.where(kept, residual.values, np.float32(0))
        residuals[name] = replace(residual, values=values)
    return replace(vector, residuals=residuals)
