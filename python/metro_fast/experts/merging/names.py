"""Names of experts that were given without names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def names_of(sources: Sequence[Any]) -> list[str]:
    """The shortest ends of the paths that distinguish them; an expert without a path is numbered.

    Example:
        >>> names_of(["experts/qa", "experts/re"]), names_of(["a/x", "b/x"]), names_of([{}, {}])
        (['qa', 're'], ['a/x', 'b/x'], ['0', '1'])
    """
    paths = [Path(source).parts if isinstance(source, str | Path) else None for source in sources]
    deepest = max((len(parts) for parts in paths if parts is not None), default=1)
    names: list[str] = []
    for depth in range(1, deepest + 1):
        names = [
            str(i) if parts is None else "/".join(parts[-depth:]) for i, parts in enumerate(paths)
        ]
        if len(set(names)) == len(names):
            return names
    return [f"{i} {name}" for i, name in enumerate(names)]
