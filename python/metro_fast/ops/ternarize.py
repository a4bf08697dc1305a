"""Turns floats into trits and one scale: ComPEFT's compression of a vector."""

from typing import Generic, NamedTuple

import numpy as np

from metro_fast import _core
from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError
from metro_fast.ops.arrays import ArrayT, give, is_tensor, typed
from metro_fast.ops.draws import resolve_threads

CHUNK = 1 << 16
"""Number of entries that a thread takes at a time."""

FLOAT16_OVERFLOW = 65520
"""From this value on, float16 rounds to infinity."""


class Ternary(NamedTuple, Generic[ArrayT]):
    """The vector `scale * trits`.

    Attributes:
        trits: int8, of the shape of the input, each -1, 0 or 1.
        scale: Factor of the trits, a float32 value.
    """

    trits: ArrayT
    scale: float


def ternarize(
    x: ArrayT,
    *,
    density: float,
    alpha: float | str = 1.0,
    num_threads: int | None = None,
) -> Ternary[ArrayT]:
    """Keep the entries of largest magnitude and replace each by its sign times one scale.

    Of d entries, k = floor(d * density + 1e-6) are kept; ties go to the lowest flat index. The
    scale is `alpha` times the standard deviation of all d entries (unbiased, in float64, before
    pruning; the magnitude of the entry if there is only one). With `alpha="least_squares"` it is
    the mean magnitude of the kept entries that are not zero, which minimizes the squared error.
    ComPEFT, arXiv 2311.13171, section 2.

    Args:
        x: float32 array or CPU tensor of any shape; finite.
        density: Share of entries to keep, in (0, 1].
        alpha: Positive number of standard deviations, or `"least_squares"`.
        num_threads: Number of threads; the machine's cores by default. It does not change the
            result.

    Returns:
        Trits of the shape and kind of `x`, and the scale.

    Raises:
        TypeError: If `x` is not float32.
        MetroFastError: If density or alpha is out of range, or an entry is NaN or infinite.

    Example:
        >>> ternarize(np.array([1, -2, 0, 3, 2], np.float32), density=0.4, alpha="least_squares")
        Ternary(trits=array([ 0, -1,  0,  1,  0], dtype=int8), scale=2.5)
    """
    values = typed("x", x, np.float32)
    trits = np.empty(values.shape, np.int8)
    scale, *_ = _core.ternarize(
        [("x", values.reshape(-1))],
        [0],
        trits.reshape(-1),
        density,
        native_alpha(alpha),
        resolve_threads(num_threads, values.size, CHUNK),
    )
    return Ternary(give(trits, tensor=is_tensor(x)), scale)


def native_alpha(alpha: float | str) -> float | None:
    """`alpha` as the native module takes it; None means least squares.

    Raises:
        TypeError: If it is neither a number nor `"least_squares"`.
        MetroFastError: If it is too large for a float.
    """
    if isinstance(alpha, str) and alpha == "least_squares":
        return None
    if isinstance(alpha, bool) or not isinstance(alpha, int | float | np.number):
        raise TypeError(f'alpha is {quoted(alpha)}, expected a positive number or "least_squares"')
    try:
        return float(alpha)
    except OverflowError as error:
        raise MetroFastError(
            f"alpha has {len(str(alpha))} digits, expected a number that a float can hold"
        ) from error


def check_scale(scale: float, dtype: str) -> None:
    """Check that a dtype can hold trits times a scale.

    Args:
        scale: Factor of the trits.
        dtype: Name of the dtype, such as `"float16"`.

    Raises:
        MetroFastError: If float32 cannot hold the scale, or the scale rounds to infinity.
    """
    if not abs(scale) <= float(np.finfo(np.float32).max):
        raise MetroFastError(f"scale is {scale}, expected a number that float32 can hold")
    if dtype == "float16" and abs(scale) >= FLOAT16_OVERFLOW:
        raise MetroFastError(f"scale is {scale}, expected at most 65504 for float16")
