"""The experts of one merge or comparison, as planes of bits."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from metro_fast import _core
from metro_fast._memory import check_decoded
from metro_fast.errors import MetroFastError
from metro_fast.experts.expert import Expert
from metro_fast.experts.file.manifest import layout
from metro_fast.experts.merging.fits import check_layouts
from metro_fast.ops.draws import resolve_threads
from metro_fast.ops.ternarize import CHUNK

Planes = tuple[NDArray[np.uint64], NDArray[np.uint64]]

NATIVE_EXPERTS = 8
"""Most experts of one native call, which codes a combination of their trits in 16 bits."""


class Members:
    """Experts of one layout as planes of bits: 2 bits per parameter and expert.

    Args:
        experts: At least one expert, by the names that messages give them.
        num_threads: Threads to use; the machine's cores by default.

    Attributes:
        experts: The experts, in order.
        count: Number of trits in the flat sequence.
        starts: First trit of each tensor.
        sizes: Number of trits of each tensor.
        scales: float64 [experts, tensors]: the value that a trit of each tensor stands for.
        planes: The two bit planes of each expert.

    Raises:
        MetroFastError: If there are no experts, or they do not hold the same tensors.
    """

    def __init__(self, experts: Mapping[str, Expert], num_threads: int | None = None) -> None:
        if not experts:
            raise MetroFastError("no experts are given, expected at least one")
        check_layouts(experts)
        self.experts = list(experts.values())
        tensors = self.experts[0].manifest.tensors
        self.starts, self.count = layout([tensor.size for tensor in tensors])
        self.sizes = [tensor.size for tensor in tensors]
        self.scales = np.array(
            [[float(e.scales[t.group]) for t in e.manifest.tensors] for e in self.experts],
            np.float64,
        ).reshape(len(self.experts), len(tensors))
        self.threads = resolve_threads(num_threads, self.count, CHUNK)
        # Two planes for each expert, and the values of one result.
        total = self.count * (len(self.experts) / 4 + 4)
        limits = [e.max_decoded_bytes for e in self.experts if e.max_decoded_bytes is not None]
        check_decoded(int(total), "the planes of the experts", min(limits, default=None))
        self.planes: list[Planes] = [_core.planes(e.block, self.threads) for e in self.experts]

    def pieces(self, scales: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The tensors, and the distinct columns of `scales` that they use.

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

    The index of a combination has two bits per expert, the first expert in the lowest: not zero,
    and negative. Indices with a negative zero never occur.

    Example:
        >>> trits_of_combinations(1)
        array([[ 0.,  1.,  0., -1.]])
    """
    codes = np.arange(4**count) >> (2 * np.arange(count)[:, None])
    return np.asarray((codes & 1) * (1.0 - (codes & 2)), np.float64) + 0.0
