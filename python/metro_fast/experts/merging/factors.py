"""Updates B A of LoRA modules as factors: linear layers, embeddings and convolutions."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metro_fast.errors import MetroFastError


class Pair(NamedTuple):
    """The factors of one module's update, scaling * B A.

    The update of a convolution with groups consists of one product per group, whose factors are
    those rows of A and of B that belong to the group. So A has as many rows as B has columns, times
    the groups.

    Attributes:
        a: float [r, ...]: A, of a linear layer [r, in], of a convolution [r, in, height, width].
        b: float [out, r / groups, ...]: B.
        scaling: The factor by which the module multiplies B A.
    """

    a: NDArray[Any]
    b: NDArray[Any]
    scaling: float = 1.0

    @property
    def groups(self) -> int:
        """The number of products."""
        return int(self.a.shape[0] // self.b.shape[1])

    def check(self, name: str) -> None:
        """Check that A and B can be multiplied.

        Args:
            name: The name of A, for messages.

        Raises:
            MetroFastError: If their shapes do not fit.
        """
        a, b = self.a.shape, self.b.shape
        fits = len(a) > 1 and len(b) > 1 and a[0] > 0 and b[1] > 0 and a[0] % b[1] == 0
        # [experts, r, in] and [experts, out, r], of a mixture, could pass for a convolution.
        mixture = len(a) == len(b) == 3 and b[2] != 1 and (a[0], a[1]) == (b[0], b[2])
        if not fits or mixture or b[0] % (a[0] // b[1]):
            raise MetroFastError(
                f"{name} has shape {a} and its other factor {b}, which do not form a product B A"
            )


def concatenated(pairs: Sequence[Pair], weights: NDArray[np.float64]) -> Pair:
    """Factors of the weighted sum of updates, exactly: their ranks add up, and the scaling is 1.

    Args:
        pairs: Factors of one module, with equal shapes apart from their ranks.
        weights: float64 [pairs].

    Example:
        >>> one, two = (Pair(np.float32([[x, 1]]), np.float32([[2]]), 0.5) for x in (3, 5))
        >>> sum_of_both = concatenated([one, two], np.array([1.0, -1.0]))
        >>> product(sum_of_both).tolist()
        [[-2.0, 0.0]]
    """
    groups, out = pairs[0].groups, pairs[0].b.shape[0]
    rows = [pair.a.reshape(groups, -1, *pair.a.shape[1:]) for pair in pairs]
    a = np.concatenate(rows, axis=1).reshape(-1, *pairs[0].a.shape[1:])
    b = np.empty((out, a.shape[0] // groups, *pairs[0].b.shape[2:]), np.float32)
    start = 0
    for pair, weight in zip(pairs, weights, strict=True):
        end = start + pair.b.shape[1]
        b[:, start:end] = (weight * pair.scaling) * pair.b.astype(np.float64)
        start = end
    return Pair(a.astype(np.float32, copy=False), b)


def product(pair: Pair) -> NDArray[np.float64]:
    """The whole update, float64 [out, entries of A per unit of rank].

    Raises:
        MetroFastError: If B is a convolution with a kernel, so that B A is not a product.
    """
    a, b = _matrices(pair)
    return np.concatenate([pair.scaling * (left @ right) for right, left in zip(a, b, strict=True)])


def truncated(pair: Pair, rank: int) -> Pair:
    """The best approximation of an update by one of low rank (Eckart and Young), as new factors.

    It comes from r x r matrices by way of QR: B A is never formed.

    Args:
        pair: Factors of an update.
        rank: Most rows of the new A: a multiple of the groups.

    Raises:
        MetroFastError: If the rank cannot be divided among the groups, or B has a kernel.

    Example:
        >>> small = truncated(Pair(np.eye(2), np.diag([3.0, 1.0])), 1)
        >>> np.abs(product(small)).round(6).tolist()
        [[3.0, 0.0], [0.0, 0.0]]
    """
    own = _rank_per_group(rank, pair.groups)
    factors = []
    for a, b in zip(*_matrices(pair), strict=True):
        left, inner_left = np.linalg.qr(pair.scaling * b)
        right, inner_right = np.linalg.qr(a.T)
        small, tall = _best(inner_left @ inner_right.T, own)
        factors.append((small @ right.T, left @ tall))
    return _joined(factors, pair)


def best_factors(update: NDArray[np.floating], rank: int, like: Pair) -> Pair:
    """The best approximation of a whole update by one of low rank, as A and B.

    Args:
        update: float [out, entries of A per unit of rank], as `product` returns it.
        rank: Most rows of A: a multiple of the groups.
        like: Factors of the same module, whose shapes apart from the rank the result gets.

    Raises:
        MetroFastError: If the rank cannot be divided among the groups.

    Example:
        >>> like = Pair(np.ones((4, 2)), np.ones((2, 4)))
        >>> np.abs(product(best_factors(np.float32([[3, 0], [0, 1]]), 1, like))).round(6).tolist()
        [[3.0, 0.0], [0.0, 0.0]]
    """
    own = _rank_per_group(rank, like.groups)
    parts = np.split(update.astype(np.float64), like.groups)
    return _joined([_best(part, own) for part in parts], like)


def _best(update: NDArray[np.float64], rank: int) -> tuple[NDArray[np.float64], ...]:
    u, s, vt = np.linalg.svd(update, full_matrices=False)
    root = np.sqrt(s[:rank])
    return root[:, None] * vt[:rank], u[:, :rank] * root


def _joined(factors: Sequence[tuple[NDArray[np.float64], ...]], like: Pair) -> Pair:
    a = np.concatenate([a for a, _ in factors]).astype(np.float32)
    b = np.concatenate([b for _, b in factors]).astype(np.float32)
    return Pair(a.reshape(-1, *like.a.shape[1:]), b.reshape(*b.shape, *like.b.shape[2:]))


def _matrices(pair: Pair) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]]:
    """A and B of each group as matrices."""
    if any(extent != 1 for extent in pair.b.shape[2:]):
        raise MetroFastError(
            f"B has the kernel {pair.b.shape[2:]}, so that B A is not a product of matrices: merge "
            "with neither rank= nor trim=, and with method='mean' or 'task_arithmetic'"
        )
    a = pair.a.astype(np.float64).reshape(pair.a.shape[0], -1)
    b = pair.b.astype(np.float64).reshape(pair.b.shape[:2])
    return np.split(a, pair.groups), np.split(b, pair.groups)


def _rank_per_group(rank: int, groups: int) -> int:
    if rank % groups:
        raise MetroFastError(
            f"rank is {rank}, which cannot be divided among the {groups} groups of a convolution: "
            f"choose a multiple of {groups}"
        )
    return rank // groups
