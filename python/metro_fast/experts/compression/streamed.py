"""Full residuals of checkpoints that do not fit into memory, compressed a tensor at a time."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metro_fast import _core
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.checkpoint import Place, read_places
from metro_fast.experts.adapters.tensors import RawTensor
from metro_fast.experts.adapters.tied import leave_out, may_be_tied
from metro_fast.experts.compression.assemble import assemble
from metro_fast.experts.compression.groups import Groups, Rule, members_of, refuse_infinity
from metro_fast.experts.compression.lost import warn_of_erased, warn_of_lost
from metro_fast.experts.compression.rules import SCOPES, read_rule
from metro_fast.experts.compression.task_vector import Residual, TaskVector, check_name, chosen
from metro_fast.experts.expert import Expert
from metro_fast.experts.file.manifest import ALIGNMENT, Group, layout
from metro_fast.ops.draws import resolve_threads
from metro_fast.ops.ternarize import CHUNK

PASSES = 3


def compress_checkpoint(
    finetuned: str | Path,
    base: str | Path,
    target: str | Path,
    *,
    density: float | None = None,
    alpha: float | str | None = None,
    scope: str = "role",
    quantize: str = "compeft",
    dense: Sequence[str] = (),
    num_threads: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Expert:
    """Compress what finetuning changed in a whole model, without holding a model in memory.

    Both checkpoints are read three times, a tensor at a time: counts and sums, then finer counts
    and squared deviations, then trits, which are packed as they come; with `scope="tensor"` once.
    In memory are a few float32 copies of the largest tensor, tables of half a megabyte a thread,
    tensors that are kept whole, and a few times the compressed bytes. The file is that of
    `compress(state, initial=base, kind="full")`, byte for byte.

    Args:
        finetuned: A .safetensors file, or a folder with model.safetensors or its shards.
        base: The pretrained weights, likewise.
        target: Folder to write the expert to.
        density: As `compress` has it.
        alpha: As `compress` has it.
        scope: As `compress` has it; `"tensor"` gives each tensor its own scale, and the other two
            are one group here.
        quantize: `"compeft"`, `"stc"` or `"sign"`; what is pruned only is not packed.
        dense: Names or patterns of tensors to keep whole, as `compress` has it.
        num_threads: Threads to use; the machine's cores by default. The bytes do not depend on it.
        progress: Called after each tensor with the entries that were seen, of all passes, and how
            many there will be.

    Returns:
        The expert, which lies in `target`.

    Warns:
        UserWarning: If a group or a tensor's update is erased.

    Raises:
        FileNotFoundError: If a checkpoint is not there.
        FormatError: If a file is damaged.
        TypeError: If a tensor or an argument has the wrong type.
        MetroFastError: If an argument is out of range, names or shapes of the two do not fit, an
            entry is NaN or infinite, or a file changes meanwhile. Nothing is written then.
        OSError: If a file cannot be read or written.

    Example:
        >>> from metro_fast.experts.adapters.state_file import write_safetensors
        >>> for name, value in (("base", 0.0), ("tuned", 0.5)):
        ...     w = RawTensor("F32", np.float32([1, 2, 3 + value]))
        ...     write_safetensors(Path(f"{name}.safetensors"), {"w": w})
        >>> expert = compress_checkpoint(
        ...     "tuned.safetensors", "base.safetensors", "out", density=0.4
        ... )
        >>> expert.trits()["w"]
        array([0, 0, 1], dtype=int8)
    """
    if quantize == "prune":
        raise MetroFastError("quantize is 'prune', which makes no trits: use compress")
    if scope not in SCOPES:
        raise MetroFastError(f"scope is {scope!r}, expected one of {', '.join(SCOPES)}")
    rule = read_rule(quantize, density, alpha, upstream=False)
    # Bad densities and alphas are refused before gigabytes are read.
    _core.Quantizer(rule.density, rule.alpha)
    state, before = read_places(Path(finetuned)), read_places(Path(base))
    vector, pairs = _plan(state, before, dense)
    starts, count = layout([residual.values.size for residual in vector.residuals.values()])
    threads = resolve_threads(num_threads, count, CHUNK)
    stream = _Stream(vector, pairs, scope, rule, threads, progress)
    made, block, checksum = stream.run(count)
    vector = TaskVector("full", vector.residuals, vector.dense, checksum)
    warn_of_lost(made, rule, 3)
    expert = assemble(vector, made, scope, rule, starts, block)
    if not made.lost:
        warn_of_erased([row.module for row in expert.estimated_fidelity if row.erased], 3)
    expert.save(target)
    return expert


def _plan(
    state: Mapping[str, Place], before: Mapping[str, Place], patterns: Sequence[str]
) -> tuple[TaskVector, dict[str, tuple[Place, Place]]]:
    """A task vector whose residuals have shapes and no memory, and where each comes from."""
    for name in state:
        check_name(name)
    left = leave_out(_stand_ins(state), _stand_ins(before))
    names = [name for name in sorted(state) if name not in left]
    whole = chosen(dict.fromkeys(names), patterns)
    ternary = [name for name in names if name not in whole and state[name].is_float]
    if not ternary:
        raise MetroFastError("no float32, float16 or bfloat16 tensor to compress")
    for name in ternary:
        if name not in before:
            raise MetroFastError(
                f"base has no {name}: a full residual needs every tensor, except those that "
                "dense= keeps whole"
            )
        if before[name].shape != state[name].shape:
            raise MetroFastError(
                f"base {name} has shape {before[name].shape}, expected {state[name].shape}"
            )
    residuals = {
        name: Residual(
            np.broadcast_to(np.float32(0), state[name].shape), state[name].dtype, "full", "given"
        )
        for name in ternary
    }
    kept = {name: state[name].read() for name in names if name not in residuals}
    pairs = {name: (state[name], before[name]) for name in ternary}
    return TaskVector("full", residuals, kept, None), pairs


def _stand_ins(places: Mapping[str, Place]) -> dict[str, RawTensor]:
    """Small tensors that are tied where those of the checkpoint are: equal digests, equal bytes."""
    return {name: _stand_in(name, place) for name, place in places.items()}


def _stand_in(name: str, place: Place) -> RawTensor:
    if place.size == 0 or len(place.shape) != 2 or not may_be_tied(name):
        return RawTensor(place.dtype, np.zeros(min(1, place.size), np.uint8))
    digest = hashlib.sha256(repr(place.shape).encode())
    digest.update(place.read().bytes.data)
    return RawTensor(place.dtype, np.frombuffer(digest.digest(), np.uint8).reshape(1, -1))


class _Stream:
    """The three passes over one pair of checkpoints."""

    def __init__(
        self,
        vector: TaskVector,
        pairs: Mapping[str, tuple[Place, Place]],
        scope: str,
        rule: Rule,
        threads: int,
        progress: Callable[[int, int], object] | None,
    ) -> None:
        self.vector, self.pairs, self.rule, self.threads = vector, pairs, rule, threads
        self.members = members_of(vector, scope)
        self.group_of = {t: i for i, names in enumerate(self.members.values()) for t in names}
        self.quantizers = [_core.Quantizer(rule.density, rule.alpha) for _ in self.members]
        self.progress, self.seen, self.checksum = progress, 0, 0
        # Of groups of one tensor all passes go over what was read once.
        self.alone = len(self.members) == len(pairs)
        passes = 1 if self.alone else PASSES
        self.total = passes * sum(residual.values.size for residual in vector.residuals.values())

    def run(self, count: int) -> tuple[Groups, NDArray[np.uint8], int]:
        """Groups, the packed block of `count` trits, and the checksum of the base."""
        for name in () if self.alone else self.pairs:
            self._quantizer(name).scan(name, self._residual(name, check=True), self.threads)
            self._tell(name)
        for name in () if self.alone else self.pairs:
            self._quantizer(name).refine(name, self._residual(name), self.threads)
            self._tell(name)
        packer, products, results = _core.Packer(count), {}, []
        for name in self.pairs:
            values, quantizer = self._residual(name, check=self.alone), self._quantizer(name)
            if self.alone:
                quantizer.scan(name, values, self.threads)
                quantizer.refine(name, values, self.threads)
            # Zero between the tensors.
            trits = np.zeros(-(-values.size // ALIGNMENT) * ALIGNMENT, np.int8)
            products[name] = quantizer.emit(name, values, trits[: values.size], self.threads)
            del values
            packer.push(trits, self.threads)
            if self.alone:
                results.append(quantizer.finish())
            self._tell(name)
        if not self.alone:
            results = [quantizer.finish() for quantizer in self.quantizers]
        return self._groups(results, products), packer.finish(), self.checksum

    def _quantizer(self, name: str) -> _core.Quantizer:
        return self.quantizers[self.group_of[name]]

    def _residual(self, name: str, *, check: bool = False) -> NDArray[np.float32]:
        tuned, base = self.pairs[name]
        given = base.read().float32().reshape(-1)
        if check:
            self.checksum = _core.crc32c(given.view(np.uint8), self.checksum)
        values = tuned.read().float32().reshape(-1)
        # In place: both were read for this alone.
        return np.subtract(values, given, out=values)

    def _tell(self, name: str) -> None:
        self.seen += self.pairs[name][0].size
        if self.progress is not None:
            self.progress(self.seen, self.total)

    def _groups(
        self,
        results: list[tuple[float, float, int, int]],
        products: dict[str, tuple[float, float, int]],
    ) -> Groups:
        groups, scales, stds, lost = [], [], [], {}
        found = zip(self.members.items(), results, strict=True)
        for (name, tensors), (scale, std, kept, _) in found:
            refuse_infinity(scale, [(t, self.vector.residuals[t]) for t in tensors])
            if (kept == 0 or scale == 0) and any(products[t][1] > 0 for t in tensors):
                lost[name] = sum(self.pairs[t][0].size for t in tensors)
            ratio = round(scale / std, 4) if std > 0 else 0.0
            alpha = ratio if self.rule.alpha is None else self.rule.alpha
            groups.append(Group(name, float(self.rule.density), alpha))
            scales.append(scale)
            stds.append(std)
        return Groups(tuple(groups), scales, stds, self.group_of, lost, products)
