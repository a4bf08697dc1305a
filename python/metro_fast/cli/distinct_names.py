"""Names of several folders that are as short as they can be and still differ."""

from collections import Counter
from collections.abc import Sequence


def distinct_names(
    whole: Sequence[Sequence[str]], joint: str, depths: Sequence[int] | None = None
) -> list[str]:
    """The ends of paths, each lengthened until no other has the same or its path is used up.

    Args:
        whole: The parts of each path, the last of which names it best.
        joint: Text between two parts of a name.
        depths: Number of parts to begin with, for each path; 1 by default.

    Example:
        >>> distinct_names([["a", "expert"], ["b", "expert"], ["c"]], "/")
        ['a/expert', 'b/expert', 'c']
    """
    lengths = list(depths or [1] * len(whole))
    while True:
        names = [joint.join(parts[-length:]) for parts, length in zip(whole, lengths, strict=True)]
        counts = Counter(names)
        longer = [
            length + (counts[name] > 1 and length < len(parts))
            for name, parts, length in zip(names, whole, lengths, strict=True)
        ]
        if longer == lengths:
            return names
        lengths = longer
