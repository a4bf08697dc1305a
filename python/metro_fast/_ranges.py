"""Checks of the numbers and names that users set, with one wording for every room."""

import math
from collections.abc import Sequence

from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError

__all__ = [
    "check_above_zero",
    "check_at_least",
    "check_choice",
    "check_fraction",
    "check_not_negative",
    "check_seed",
    "check_share",
]


def check_at_least(minimum: int, **values: float) -> None:
    """Refuse a number below a minimum, and NaN.

    Args:
        minimum: The smallest number that is allowed.
        **values: The numbers, by the names that the message gives them.

    Raises:
        MetroFastError: If one of them is too small.

    Example:
        >>> check_at_least(1, steps=0)
        Traceback (most recent call last):
        ...
        metro_fast._core.MetroFastError: steps is 0, expected at least 1
    """
    for name, value in values.items():
        if not value >= minimum:
            raise MetroFastError(f"{name} is {value}, expected at least {minimum}")


def check_above_zero(**values: float) -> None:
    """Refuse a number that is not finite, or not above 0.

    Raises:
        MetroFastError: If one of them is such a number.
    """
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise MetroFastError(f"{name} is {value}, expected a finite number above 0")


def check_not_negative(**values: float) -> None:
    """Refuse a number that is not finite, or below 0.

    Raises:
        MetroFastError: If one of them is such a number.
    """
    for name, value in values.items():
        if not (math.isfinite(value) and value >= 0):
            raise MetroFastError(f"{name} is {value}, expected a finite number >= 0")


def check_share(**values: float) -> None:
    """Refuse a share of tokens that is not strictly between 0 and 1.

    Raises:
        MetroFastError: If one of them is such a number.
    """
    for name, value in values.items():
        if not 0 < value < 1:
            raise MetroFastError(f"{name} is {value}, expected a number in (0, 1)")


def check_fraction(**values: float) -> None:
    """Refuse a fraction outside [0, 1), such as a dropout rate.

    Raises:
        MetroFastError: If one of them is such a number.
    """
    for name, value in values.items():
        if not 0 <= value < 1:
            raise MetroFastError(f"{name} is {value}, expected a number in [0, 1)")


def check_seed(bits: int, **values: int) -> None:
    """Refuse a seed that does not fit into a number of bits.

    Args:
        bits: 32 for numpy's global generator, 63 for our own draws.
        **values: The seeds, by the names that the message gives them.

    Raises:
        MetroFastError: If one of them is negative or too large.

    Example:
        >>> check_seed(32, seed=-1)
        Traceback (most recent call last):
        ...
        metro_fast._core.MetroFastError: seed is -1, expected 0 <= seed < 2**32
    """
    for name, value in values.items():
        if not 0 <= value < 2**bits:
            raise MetroFastError(f"{name} is {value}, expected 0 <= seed < 2**{bits}")


def check_choice(known: Sequence[str], **values: str) -> None:
    """Refuse a name that is not one of the known ones.

    Args:
        known: The names that are allowed.
        **values: The names to check, by those that the message gives them.

    Raises:
        MetroFastError: If one of them is unknown.

    Example:
        >>> check_choice(("full", "lora"), method="ia3")
        Traceback (most recent call last):
        ...
        metro_fast._core.MetroFastError: method is 'ia3', expected full or lora
    """
    for name, value in values.items():
        if value not in known:
            others, last = ", ".join(known[:-1]), known[-1]
            expected = f"{others} or {last}" if others else last
            raise MetroFastError(f"{name} is {quoted(value)}, expected {expected}")
