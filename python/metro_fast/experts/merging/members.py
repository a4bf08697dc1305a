"""Experts that are merged or compared: what each holds at every position, and that they fit."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metro_fast import _core
from metro_fast.errors import MetroFastError
from metro_fast.experts.expert import Expert, read_expert
from metro_fast.experts.file.manifest import layout
from metro_fast.ops.draws import resolve_threads
from metro_fast.ops.ternarize import CHUNK

Planes = tuple[NDArray[np.uint64], NDArray[np.uint64]]

NATIVE_EXPERTS = 8
"""Experts of one native call: a combination of their trits is a 16-bit number."""


def read_members(sources: Sequence[Any], least: int = 1) -> list[Expert]:
    """Experts of folders, files or themselves.

    Raises:
        TypeError: If a source is something else.
        MetroFastError: If there are too few, or they do not hold the same tensors.
    """
    experts = [read_expert(source) for source in sources]
    if len(experts) < least:
        raise MetroFastError(f"{len(experts)} experts, expected at least {least}")
    for i, expert in enumerate(experts[1:], 1):
        _refuse_unlike(experts[0], expert, i)
    return experts


def _refuse_unlike(first: Expert, other: Expert, i: int) -> None:
    ours, theirs = first.manifest, other.manifest
    for what, one, two in (
        ("kind", ours.kind, theirs.kind),
        ("base model", ours.base.model, theirs.base.model),
        ("initial values", ours.base.initial_crc32c, theirs.base.initial_crc32c),
    ):
        if one != two:
            raise MetroFastError(f"expert {i} has {what} {two!r}, expert 0 {one!r}: no pair")
    a, b = ({t.name: t for t in m.tensors} for m in (ours, theirs))
    for name in sorted(set(a) | set(b)):
        if name not in a or name not in b:
            raise MetroFastError(f"only one of the experts 0 and {i} has {name}")
        if a[name].shape != b[name].shape or a[name].initial != b[name].initial:
            raise MetroFastError(
                f"{name} has shape {b[name].shape} in expert {i}, {a[name].shape} in expert 0: for "
                "LoRA of different ranks use space='delta'"
            )


class Members:
    """Experts of one layout as planes of bits: 2 bits a parameter and expert.

    Attributes:
        experts: The experts.
        count: Trits of the flat sequence.
        starts: First trit of each tensor.
        scales: float64 [experts, tensors]: what a trit of each tensor is worth.
    """

    def __init__(self, experts: Sequence[Expert], num_threads: int | None = None) -> None:
        self.experts = list(experts)
        tensors = experts[0].manifest.tensors
        self.starts, self.count = layout([tensor.size for tensor in tensors])
        self.sizes = [tensor.size for tensor in tensors]
        self.scales = np.array(
            [[float(e.scales[t.group]) for t in e.manifest.tensors] for e in experts], np.float64
        ).reshape(len(self.experts), len(tensors))
        self.threads = resolve_threads(num_threads, self.count, CHUNK)
        self.planes: list[Planes] = [_core.planes(e.block, self.threads) for e in self.experts]

    def pieces(self, scales: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The tensors, and the different columns of `scales` they have.

        Args:
            scales: float64 [experts, tensors].

        Returns:
            int64 [tensors, 3] of start, length and column, and float64 [experts, columns].
        """
        columns, which = np.unique(scales, axis=1, return_inverse=True)
        rows = zip(self.starts, self.sizes, which.reshape(-1).tolist(), strict=True)
        return np.array(list(rows), np.int64).reshape(-1, 3), columns


def trits_of_combinations(count: int) -> NDArray[np.float64]:
    """The trits of each combination of `count` experts: float64 [count, 4 ** count].

    Two bits an expert, the first one lowest: not zero, negative. Half of them never occur.

    Example:
        >>> trits_of_combinations(1)
        array([[ 0.,  1.,  0., -1.]])
    """
    codes = np.arange(4**count) >> (2 * np.arange(count)[:, None])
    return np.asarray((codes & 1) * (1.0 - (codes & 2)), np.float64) + 0.0
