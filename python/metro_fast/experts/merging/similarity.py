"""Which of many experts are alike."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metro_fast import _core
from metro_fast.experts.expert import Expert
from metro_fast.experts.merging.members import Members, read_members


@dataclass(frozen=True)
class Similarity:
    """Cosines of all pairs of experts.

    Attributes:
        names: Of the experts.
        matrix: float64 [experts, experts], symmetric; 0 where an expert is all zero.
    """

    names: tuple[str, ...]
    matrix: NDArray[np.float64]

    def pairs(self, least: float = 0.9) -> list[tuple[str, str, float]]:
        """Pairs of different experts whose cosine is at least this, the closest first.

        Example:
            >>> Similarity(("a", "b"), np.array([[1.0, 0.95], [0.95, 1.0]])).pairs()
            [('a', 'b', 0.95)]
        """
        found = [
            (self.names[i], self.names[j], float(self.matrix[i, j]))
            for i, j in zip(*np.triu_indices(len(self.names), 1), strict=True)
            if self.matrix[i, j] >= least
        ]
        return sorted(found, key=lambda pair: -pair[2])

    def write_csv(self, path: str | Path) -> None:
        """Write the matrix as a table with names in the first row and column."""
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["expert", *self.names])
            for name, row in zip(self.names, self.matrix.tolist(), strict=True):
                writer.writerow([name, *row])


def similarity(
    experts: Mapping[str, Expert | str | Path] | Sequence[Expert | str | Path],
    *,
    num_threads: int | None = None,
) -> Similarity:
    """Compare every pair of experts, by their bits: cos of what is added to the weights.

    Each expert is decoded once, to two bits a parameter; a pair takes two passes of AND and
    POPCNT. Of LoRA experts the factors are compared, A with A and B with B: two experts with
    different factors and one product would be called unlike.

    Args:
        experts: Experts or paths, by name or in order (then named by their folders or numbers).
        num_threads: Threads to use; the machine's cores by default.

    Returns:
        Names and cosines.

    Raises:
        TypeError: If one is no expert.
        MetroFastError: If they do not hold the same tensors.

    Example:
        >>> from metro_fast.experts import compress
        >>> a, b = (np.float32([1, -1, 0, 0]), np.float32([1, 1, 0, 0]))
        >>> found = similarity([compress({"w": w}, kind="other", density=0.5) for w in (a, b)])
        >>> found.matrix.tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    sources = list(experts.values() if isinstance(experts, Mapping) else experts)
    found = read_members(sources, least=1)
    names = list(experts) if isinstance(experts, Mapping) else _names(sources)
    members = Members(found, num_threads)
    rows = zip(members.starts, members.sizes, range(len(members.sizes)), strict=True)
    pieces = np.array(list(rows), np.int64).reshape(-1, 3)
    count, tensors = len(found), len(members.sizes)
    dots = _core.dot_products(members.planes, pieces, tensors, members.count, members.threads)
    inner = np.einsum(
        "ijt,it,jt->ij", dots.reshape(count, count, tensors), members.scales, members.scales
    )
    norms = np.sqrt(np.diag(inner))
    both = np.outer(norms, norms)
    matrix = np.divide(inner, both, out=np.zeros_like(inner), where=both > 0).clip(-1, 1)
    return Similarity(tuple(names), matrix)


def _names(experts: Sequence[Any]) -> list[str]:
    """The shortest ends of the paths that tell them apart, or numbers."""
    paths = [None if isinstance(e, Expert) else Path(e).parts for e in experts]
    deepest = max((len(parts) for parts in paths if parts is not None), default=1)
    for depth in range(1, deepest + 1):
        names = [
            str(i) if parts is None else "/".join(parts[-depth:]) for i, parts in enumerate(paths)
        ]
        if len(set(names)) == len(names):
            return names
    return [f"{i} {name}" for i, name in enumerate(names)]
