"""What a merge makes of the values that its experts have at one position."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metro_fast.errors import MetroFastError

Values = NDArray[np.float64]
METHODS = ("mean", "task_arithmetic", "ties")
FUNCTIONS = ("sum", "mean", "max")
TIES = ("compeft", "peft")
MAJORITIES = ("total", "frequency")


def choice(name: str, value: Any, known: tuple[str, ...]) -> None:
    """Refuse a value that is none of the known ones.

    Raises:
        MetroFastError: With the value and the known ones.
    """
    if value not in known:
        raise MetroFastError(f"{name} is {value!r}, expected one of {', '.join(known)}")


def elect(
    values: Values, sign_ties: str = "peft", majority: str = "total", global_sign: float = 0.0
) -> Values:
    """The sign of each position, by TIES (arXiv 2306.01708): that of the sum over the experts.

    Args:
        values: float64 [experts, n], not weighted.
        sign_ties: Who wins where the sum is 0: `"peft"`: plus; `"compeft"`: the sign that most
            positions have, which the caller counts (0 where that is undecided too).
        majority: `"total"` sums values, `"frequency"` signs, as PEFT calls them.
        global_sign: Of all positions, for `"compeft"`.

    Returns:
        float64 [n]: -1, 0 or 1; never 0 under `"peft"`.

    Example:
        >>> elect(np.array([[1.0, -1.0, 2.0], [-1.0, -1.0, 0.0]]))
        array([ 1., -1.,  1.])
    """
    total = (np.sign(values) if majority == "frequency" else values).sum(0)
    sign = np.sign(total)
    return np.where(sign == 0, 1.0 if sign_ties == "peft" else global_sign, sign)


def ties(values: Values, weights: Values, sign: Values, function: str, sign_ties: str) -> Values:
    """Merge the values that have the elected sign, and leave out the others.

    Args:
        values: float64 [experts, n].
        weights: float64 [experts]: what an expert's values count, after the election.
        sign: float64 [n], of `elect`.
        function: `"sum"`, `"mean"` (over those that agree) or `"max"` (the largest magnitude).
        sign_ties: `"compeft"`: where the sign is 0 the negative values are taken, and the largest
            magnitude is 0, as its code has it.

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
        return np.asarray(np.abs(chosen).max(0) * sign)
    total = chosen.sum(0)
    return np.asarray(total if function == "sum" else total / np.maximum(agrees.sum(0), 1))
