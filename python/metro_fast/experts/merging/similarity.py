"""Cosines between the updates of experts."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metro_fast import _core
from metro_fast._atomic import write_atomically
from metro_fast._csv import as_text
from metro_fast.experts.expert import Expert, read_expert
from metro_fast.experts.merging.fits import check_configs
from metro_fast.experts.merging.members import Members
from metro_fast.experts.merging.names import names_of
from metro_fast.experts.merging.roots import rooted, scaling_of_tensors


@dataclass(frozen=True)
class Similarity:
    """Cosines of all pairs of experts.

    Attributes:
        names: The names of the experts.
        matrix: float64 [experts, experts], symmetric; 0 where an expert is all zero.

    Example:
        >>> Similarity(("a", "b"), np.array([[1.0, 0.95], [0.95, 1.0]]))
        <Similarity of 2 experts; closest: a and b at 0.950>
    """

    names: tuple[str, ...]
    matrix: NDArray[np.float64]

    def __repr__(self) -> str:
        count = len(self.names)
        if count < 2:
            return f"<Similarity of {count} expert{'' if count == 1 else 's'}>"
        others = np.where(np.triu(np.ones_like(self.matrix), 1) > 0, self.matrix, -np.inf)
        i, j = divmod(int(others.argmax()), count)
        pair = f"{self.names[i]} and {self.names[j]} at {self.matrix[i, j]:.3f}"
        return f"<Similarity of {count} experts; closest: {pair}>"

    def pairs(self, least: float = 0.9) -> list[tuple[str, str, float]]:
        """Pairs of different experts whose cosine is at least `least`, the closest first.

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
        """Write the matrix as a table with the names in its first row and column.

        A name that a spreadsheet would run as a formula gets an apostrophe in front.
        """
        file = io.StringIO(newline="")
        writer = csv.writer(file)
        names = [as_text(name) for name in self.names]
        writer.writerow(["expert", *names])
        for name, row in zip(names, self.matrix.tolist(), strict=True):
            writer.writerow([name, *row])
        write_atomically(path, file.getvalue())


def similarity(
    experts: Mapping[str, Expert | str | Path] | Sequence[Expert | str | Path],
    *,
    num_threads: int | None = None,
) -> Similarity:
    """Compare every pair of experts by the cosine of what they add to the weights.

    Each expert is decoded once, to two bits per parameter; each pair then takes two passes of AND
    and POPCNT. LoRA experts are compared by their factors, A with A and B with B, each times the
    root of its module's scaling (alpha / r). So two experts with different factors, but equal
    products B A, count as different.

    Args:
        experts: Experts or paths, by name or in order (then named by their folders or numbers).
        num_threads: Threads to use; the machine's cores by default.

    Returns:
        Names and cosines.

    Raises:
        TypeError: If a source is not an expert or a path.
        MetroFastError: If no experts are given, or they do not hold the same tensors.

    Example:
        >>> from metro_fast.experts import compress
        >>> a, b = (np.float32([1, -1, 0, 0]), np.float32([1, 1, 0, 0]))
        >>> found = similarity([compress({"w": w}, kind="other", density=0.5) for w in (a, b)])
        >>> found.matrix.tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    sources = list(experts.values() if isinstance(experts, Mapping) else experts)
    names = list(experts) if isinstance(experts, Mapping) else names_of(sources)
    found = {name: read_expert(source) for name, source in zip(names, sources, strict=True)}
    members = Members(found, num_threads)
    check_configs(found)
    scales = members.scales * rooted(members, scaling_of_tensors(members))
    rows = zip(members.starts, members.sizes, range(len(members.sizes)), strict=True)
    pieces = np.array(list(rows), np.int64).reshape(-1, 3)
    count, tensors = len(sources), len(members.sizes)
    dots = _core.dot_products(members.planes, pieces, tensors, members.count, members.threads)
    inner = np.einsum("ijt,it,jt->ij", dots.reshape(count, count, tensors), scales, scales)
    both = np.sqrt(np.outer(np.diag(inner), np.diag(inner)))  # the diagonal becomes 1 exactly
    matrix = np.divide(inner, both, out=np.zeros_like(inner), where=both > 0).clip(-1, 1)
    return Similarity(tuple(names), matrix)
