"""One scale for tasks with different chance and room, such as F1 of 20 and accuracy of 80."""

import math
from typing import NamedTuple

from metro_fast.errors import MetroFastError

__all__ = ["OnScale", "chance_corrected", "cohens_h", "on_scale"]

_EDGE = 1e-9


class OnScale(NamedTuple):
    """A task's numbers where 0 is guessing and 1 is perfect, and its spread by its room.

    Attributes:
        mean: The chance-corrected mean over wordings, (mean - chance) / (1 - chance).
        worst: The same of the worst wording.
        sigma: The noise-corrected sigma over 1 - chance; None if it is not known.
        relative_sigma: Sigma / √(m(1-m)), with m the uncorrected mean: its share of the largest
            standard deviation that items with this mean can have. None at a mean of 0 or 1.
        logit_sigma: Sigma of the log odds, to first order sigma / (m(1-m)).
    """

    mean: float
    worst: float
    sigma: float | None
    relative_sigma: float | None
    logit_sigma: float | None


def on_scale(mean: float, worst: float, sigma: float | None, chance: float | None) -> OnScale:
    """Put a task's numbers on the scale.

    Args:
        mean: Mean over wordings.
        worst: Value of the worst wording.
        sigma: Noise-corrected standard deviation over wordings.
        chance: Value of a guess; None for free answers, where it counts as 0.

    Returns:
        The numbers.

    Raises:
        MetroFastError: If chance is not from 0 to below 1.

    Example:
        >>> scaled = on_scale(0.8, 0.6, 0.05, 0.5)
        >>> round(scaled.mean, 3), round(scaled.sigma, 3), round(scaled.relative_sigma, 3)
        (0.6, 0.1, 0.125)
    """
    guess = 0.0 if chance is None else chance
    room = mean * (1 - mean)
    known = sigma is not None and room > _EDGE
    return OnScale(
        mean=chance_corrected(mean, guess),
        worst=chance_corrected(worst, guess),
        sigma=None if sigma is None else sigma / (1 - guess),
        relative_sigma=sigma / math.sqrt(room) if sigma is not None and known else None,
        logit_sigma=sigma / room if sigma is not None and known else None,
    )


def chance_corrected(value: float, chance: float) -> float:
    """(value - chance) / (1 - chance): 0 for guessing, 1 for perfect, negative below guessing.

    Raises:
        MetroFastError: If chance is not from 0 to below 1.

    Example:
        >>> chance_corrected(0.75, 0.5)
        0.5
    """
    if not 0 <= chance < 1:
        raise MetroFastError(f"chance is {chance}, expected a share from 0 to below 1")
    return (value - chance) / (1 - chance)


def cohens_h(first: float, second: float) -> float:
    """Cohen's effect size of two shares, 2 asin √second - 2 asin √first.

    Raises:
        MetroFastError: If a share is not from 0 to 1.

    Example:
        >>> round(cohens_h(0.5, 0.75), 3)
        0.524
    """
    if not (0 <= first <= 1 and 0 <= second <= 1):
        raise MetroFastError(f"the shares are {first} and {second}, expected numbers from 0 to 1")
    return 2 * math.asin(math.sqrt(second)) - 2 * math.asin(math.sqrt(first))
