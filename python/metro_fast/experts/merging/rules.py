"""Rules that merge the values of several experts at one position."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.ops.ternarize import ternarize

Values = NDArray[np.float64]
METHODS = ("mean", "task_arithmetic", "ties")
FUNCTIONS = ("sum", "mean", "max")
TIES = ("compeft", "peft")
MAJORITIES = ("total", "frequency")


class Ties(NamedTuple):
    """A variant of TIES (arXiv 2306.01708); `merge` explains each choice.

    Attributes:
        function: `"sum"`, `"mean"` or `"max"` of the values that agree with the elected sign.
        sign_ties: `"peft"` or `"compeft"`: which sign wins where the signs balance.
        majority: `"total"` or `"frequency"`: whether the election sums values or signs.
    """

    function: str = "mean"
    sign_ties: str = "peft"
    majority: str = "total"

    def check(self) -> None:
        """Check that all three choices are known.

        Raises:
            MetroFastError: If one is not; the message has the value and the known ones.
        """
        choice("merge_function", self.function, FUNCTIONS)
        choice("sign_ties", self.sign_ties, TIES)
        choice("majority", self.majority, MAJORITIES)


def choice(name: str, value: Any, known: tuple[str, ...]) -> None:
    """Check that the value of an option is one of the known ones.

    Raises:
        MetroFastError: If it is not; the message has the value and the known ones.
    """
    if value not in known:
        raise MetroFastError(f"{name} is {quoted(value)}, expected one of {', '.join(known)}")


def prune(values: NDArray[np.float32], density: float) -> NDArray[np.float32]:
    """Set all but the largest magnitudes of each row to 0, as TIES trims a task vector.

    Args:
        values: float32 [experts, n].
        density: Share of a row that is kept: `floor(n * density + 1e-6)`, ties to the lowest index.

    Returns:
        float32 [experts, n].

    Example:
        >>> prune(np.float32([[1, -3, 2, 0]]), 0.5)
        array([[ 0., -3.,  2.,  0.]], dtype=float32)
    """
    kept = [ternarize(np.ascontiguousarray(row), density=density).trits != 0 for row in values]
    return np.where(np.stack(kept), values, np.float32(0))


def elect(
    values: NDArray[np.floating],
    sign_ties: str = "peft",
    majority: str = "total",
    global_sign: float = 0.0,
) -> Values:
    """The sign that TIES (arXiv 2306.01708) elects at each position: that of the experts' sum.

    Args:
        values: float [experts, n], not weighted.
        sign_ties: The sign where the sum is 0. `"peft"`: plus; `"compeft"`: the sign of most
            positions, which the caller counts (0 where that is undecided too).
        majority: `"total"` sums values, `"frequency"` sums signs, as PEFT calls them.
        global_sign: The sign of most positions, for `"compeft"`.

    Returns:
        float64 [n]: -1, 0 or 1; never 0 under `"peft"`.

    Example:
        >>> elect(np.array([[1.0, -1.0, 2.0], [-1.0, -1.0, 0.0]]))
        array([ 1., -1.,  1.])
    """
    total = (np.sign(values) if majority == "frequency" else values).sum(0)
    sign = np.sign(total)
    return np.where(sign == 0, 1.0 if sign_ties == "peft" else global_sign, sign)


def ties(
    values: NDArray[np.floating], weights: Values, sign: Values, function: str, sign_ties: str
) -> Values:
    """Merge the values that have the elected sign, and leave out the others.

    Args:
        values: float [experts, n].
        weights: float64 [experts]: the weight of an expert's values, applied after the election.
        sign: float64 [n], from `elect`.
        function: `"sum"`, `"mean"` (over those that agree) or `"max"` (the value of the largest
            magnitude, with the sign that its weight gives it).
        sign_ties: With `"compeft"`, where the sign is 0, the negative values are taken, and the
            largest magnitude is 0, as in the code of ComPEFT.

    Returns:
        float64 [n].

    Example:
        >>> values = np.array([[1.0, -1.0], [3.0, 2.0]])
        >>> ties(values, np.ones(2), np.array([1.0, 1.0]), "mean", "peft")
        array([2., 2.])
    """
    positive = sign > 0
    agrees = np.where(positive, values > 0, values < 0)
    chosen = np.where(agrees, values * weights[:, None], 0.0)
    if function == "max":
        largest = np.abs(chosen).argmax(0)[None]
        return np.where(sign == 0, 0.0, np.take_along_axis(chosen, largest, 0)[0])
    total = chosen.sum(0)
    return np.asarray(total if function == "sum" else total / np.maximum(agrees.sum(0), 1))
