"""Compression of checkpoints that do not fit into memory, one tensor at a time."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metro_fast import _core
from metro_fast._atomic import checked_path
from metro_fast.errors import MetroFastError
from metro_fast.experts.adapters.checkpoint import Place, read_places
from metro_fast.experts.adapters.initial import unequal
from metro_fast.experts.adapters.tensors import RawTensor
from metro_fast.experts.adapters.tied import leave_out, may_be_tied
from metro_fast.experts.compression.assemble import assemble
from metro_fast.experts.compression.groups import Groups, Products, Rule, collect_groups, members_of
from metro_fast.experts.compression.kept import Kept
from metro_fast.experts.compression.lost import warn_of_erased, warn_of_lost
from metro_fast.experts.compression.rules import SCOPES, check_choice, read_rule
from metro_fast.experts.compression.task_vector import (
    Residual,
    TaskVector,
    check_name,
    chosen,
    metadata_of,
)
from metro_fast.experts.expert import Expert
from metro_fast.experts.file.manifest import ALIGNMENT, layout
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
    """Compress the changes that finetuning made to a whole model, without a model in memory.

    Both checkpoints are read three times, one tensor at a time: for counts and sums, then for finer
    counts and squared deviations, then for trits, which are packed at once. With `scope="tensor"`
    they are read once. Memory is needed for a few float32 copies of the largest tensor, tables of
    half a megabyte per thread, tensors that are kept whole, and a few times the compressed bytes.
    The file has the same bytes as that of `compress(state, initial=base, kind="full")`.

    Args:
        finetuned: A .safetensors file, or a folder with model.safetensors or its shards.
        base: The pretrained weights, in the same form.
        target: The folder to write the expert to.
        density: As in `compress`.
        alpha: As in `compress`.
        scope: As in `compress`; `"tensor"` gives each tensor its own scale, and the other two
            make one group here.
        quantize: `"compeft"`, `"stc"` or `"sign"`; a pruned vector cannot be packed.
        dense: Names or patterns of tensors to keep whole, as in `compress`.
        num_threads: Threads to use; the machine's cores by default. The bytes do not depend on it.
        progress: It is called after each tensor with the number of entries that were read, over
            all passes, and the number that will be read.

    Returns:
        The expert, which has been written to `target`.

    Warns:
        UserWarning: If a group or a tensor's update is erased.

    Raises:
        FileNotFoundError: If a checkpoint does not exist.
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
    checked_path(target)
    expert = stream_checkpoint(
        finetuned,
        base,
        density=density,
        alpha=alpha,
        scope=scope,
        quantize=quantize,
        dense=dense,
        num_threads=num_threads,
        progress=progress,
    )
    expert.save(target)
    return expert


def stream_checkpoint(
    finetuned: str | Path,
    base: str | Path,
    *,
    density: float | None,
    alpha: float | str | None,
    scope: str,
    quantize: str,
    dense: Sequence[str],
    num_threads: int | None,
    progress: Callable[[int, int], object] | None,
) -> Expert:
    """The expert of `compress_checkpoint`, whose arguments these are, without saving it."""
    if quantize == "prune":
        raise MetroFastError("quantize is 'prune', which does not make trits: use compress")
    check_choice("scope", scope, SCOPES)
    rule = read_rule(quantize, density, alpha, upstream=False)
    # Refuses bad densities and alphas before gigabytes are read.
    _core.Quantizer(rule.density, rule.alpha)
    state, before = read_places(Path(finetuned)), read_places(Path(base))
    vector, pairs = _plan(state, before, dense)
    starts, count = layout([residual.values.size for residual in vector.residuals.values()])
    threads = resolve_threads(num_threads, count, CHUNK)
    stream = _Stream(vector, pairs, scope, rule, threads, progress)
    made, block, checksum = stream.run(count)
    vector = replace(vector, initial_crc32c=checksum)
    warn_of_lost(made, rule, 4)
    estimate = Kept(vector, starts, None).estimate(made)
    expert = assemble(vector, made, scope, rule, starts, block, estimate)
    if not made.lost:
        warn_of_erased([row.module for row in estimate if row.erased], 4)
    return expert


def _plan(
    state: Mapping[str, Place], before: Mapping[str, Place], patterns: Sequence[str]
) -> tuple[TaskVector, dict[str, tuple[Place, Place]]]:
    """A task vector whose residuals have shapes but use no memory, and the two places of each."""
    for name in state:
        check_name(name)
    left = leave_out(_stand_ins(state), _stand_ins(before))
    names = [name for name in sorted(state) if name not in left]
    whole = chosen(dict.fromkeys(names), patterns)
    ternary = [name for name in names if name not in whole and state[name].is_float]
    if not ternary:
        raise MetroFastError(
            "there is no float32, float16 or bfloat16 tensor to compress: name fewer in dense, or "
            "convert the tensors"
        )
    for name in ternary:
        if name not in before:
            raise MetroFastError(
                f"base does not have {name}: a full residual needs every tensor, except those that "
                "dense= keeps whole"
            )
        if before[name].shape != state[name].shape:
            raise MetroFastError(unequal(f"base {name}", before[name].shape, state[name].shape))
    residuals = {
        name: Residual(
            np.broadcast_to(np.float32(0), state[name].shape), state[name].dtype, "full", "given"
        )
        for name in ternary
    }
    kept = {name: state[name].read() for name in names if name not in residuals}
    pairs = {name: (state[name], before[name]) for name in ternary}
    return TaskVector("full", residuals, kept, None, metadata=metadata_of(state)), pairs


def _stand_ins(places: Mapping[str, Place]) -> dict[str, RawTensor]:
    """Small tensors that are tied if those of the checkpoint are: their bytes are digests."""
    return {name: _stand_in(name, place) for name, place in places.items()}


def _stand_in(name: str, place: Place) -> RawTensor:
    if place.size == 0 or len(place.shape) != 2 or not may_be_tied(name):
        return RawTensor(place.dtype, np.zeros(min(1, place.size), np.uint8))
    digest = hashlib.sha256(repr(place.shape).encode())
    digest.update(place.read().bytes.data)
    return RawTensor(place.dtype, np.frombuffer(digest.digest(), np.uint8).reshape(1, -1))


class _Stream:
    """The passes over one pair of checkpoints."""

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
        self.quantizers = [_core.Quantizer(rule.density, rule.alpha) for _ in self.members]
        self.quantizer_of = {
            name: quantizer
            for quantizer, names in zip(self.quantizers, self.members.values(), strict=True)
            for name in names
        }
        self.progress, self.seen, self.checksum = progress, 0, 0
        # If each group has one tensor, all passes use what was read once.
        self.alone = len(self.members) == len(pairs)
        passes = 1 if self.alone else PASSES
        self.total = passes * sum(residual.values.size for residual in vector.residuals.values())

    def run(self, count: int) -> tuple[Groups, NDArray[np.uint8], int]:
        """Return the groups, the packed block of `count` trits, and the checksum of the base."""
        for name in () if self.alone else self.pairs:
            self.quantizer_of[name].scan(name, self._residual(name, check=True), self.threads)
            self._report(name)
        for name in () if self.alone else self.pairs:
            self.quantizer_of[name].refine(name, self._residual(name), self.threads)
            self._report(name)
        packer, products, results = _core.Packer(count), dict[str, Products](), []
        for name in self.pairs:
            values, quantizer = self._residual(name, check=self.alone), self.quantizer_of[name]
            if self.alone:
                quantizer.scan(name, values, self.threads)
                quantizer.refine(name, values, self.threads)
            # The gap after the tensor holds zeros.
            trits = np.zeros(-(-values.size // ALIGNMENT) * ALIGNMENT, np.int8)
            products[name] = quantizer.emit(name, values, trits[: values.size], self.threads)
            del values
            packer.push(trits, self.threads)
            if self.alone:
                results.append(quantizer.finish())
            self._report(name)
        if not self.alone:
            results = [quantizer.finish() for quantizer in self.quantizers]
        scales = ((scale, std, kept) for scale, std, kept, _ in results)
        groups = collect_groups(self.vector, self.members, self.rule, scales, products)
        return groups, packer.finish(), self.checksum

    def _residual(self, name: str, *, check: bool = False) -> NDArray[np.float32]:
        tuned, base = self.pairs[name]
        given = base.read().float32().reshape(-1)
        if check:
            self.checksum = _core.crc32c(given.view(np.uint8), self.checksum)
        values = tuned.read().float32().reshape(-1)
        # In place, since nothing else uses the values.
        return np.subtract(values, given, out=values)

    def _report(self, name: str) -> None:
        self.seen += self.pairs[name][0].size
        if self.progress is not None:
            self.progress(self.seen, self.total)
