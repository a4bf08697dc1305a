"""The name of a numpy dtype that a caller gives."""

import numpy as np
import numpy.typing as npt

from metro_fast._shown import shown

__all__ = ["dtype_name"]


def dtype_name(dtype: npt.DTypeLike, expected: str) -> str:
    """The name of a dtype, such as `float32`.

    Args:
        dtype: Anything that numpy takes for one.
        expected: The dtypes that are accepted, for the message.

    Returns:
        The name; whether it is accepted is for the caller to say.

    Raises:
        TypeError: If numpy knows no such dtype.

    Example:
        >>> dtype_name("<f4", "float32 or float16")
        'float32'
    """
    try:
        return np.dtype(dtype).name
    except (SyntaxError, TypeError, ValueError):  # numpy's message repeats the value, however long
        raise TypeError(f"dtype is {shown(dtype)}, expected {expected}") from None
