"""The check of scores that a caller's function returns."""

import math
from typing import Any

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError


def checked_score(value: Any) -> float:
    """Convert a score to a finite number.

    Raises:
        TypeError: If it is not a number.
        MetroFastError: If it is NaN or infinite.

    Example:
        >>> checked_score(0.5)
        0.5
    """
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"the score is {quoted(value)}, expected a number") from error
    if not math.isfinite(number):
        raise MetroFastError(f"the score is {number}, expected a finite number")
    return number
