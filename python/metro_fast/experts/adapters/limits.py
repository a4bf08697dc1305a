"""Limits for the names and shapes of tensors in untrusted files."""

from collections.abc import Iterable, Sequence

from metro_fast._shown import shown
from metro_fast.errors import FormatError

MOST_NAME, MOST_DIMENSIONS = 1000, 64
"""Ten times the longest name that libraries give a tensor, and the dimensions that numpy has."""


def check_tensors(tensors: Iterable[tuple[str, Sequence[int]]], where: str = "") -> None:
    """Refuse names and shapes that no library gives a tensor.

    Every message and table may then show the names of tensors as they are.

    Args:
        tensors: Names and shapes.
        where: The file, for the message, with a colon and a space.

    Raises:
        FormatError: Naming the tensor.

    Example:
        >>> check_tensors([("layers.0.q.lora_A.weight", (8, 64))])
    """
    for name, shape in tensors:
        if len(name) > MOST_NAME:
            raise FormatError(
                f"{where}the name {shown(repr(name))} has {len(name)} characters, expected at most "
                f"{MOST_NAME}: rename the tensor"
            )
        if not name.isprintable():
            raise FormatError(
                f"{where}the name {shown(repr(name))} has characters that cannot be printed: "
                "rename the tensor"
            )
        if len(shape) > MOST_DIMENSIONS:
            raise FormatError(
                f"{where}{shown(name)} has {len(shape):,} dimensions, expected at most "
                f"{MOST_DIMENSIONS}"
            )
