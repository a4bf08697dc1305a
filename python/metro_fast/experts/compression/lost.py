"""Warnings of groups and modules that compression erased."""

import warnings
from collections.abc import Sequence

from metro_fast.experts.adapters.updates import ERASED_COSINE
from metro_fast.experts.compression.groups import Groups, Rule


def warn_of_lost(made: Groups, rule: Rule, stacklevel: int) -> None:
    """Warn of the groups that have no nonzero entry left."""
    for name, entries in made.lost.items():
        warnings.warn(
            f"group {name} is erased: none of its {entries} entries is kept at density "
            f"{rule.density}, or all are equal",
            stacklevel=stacklevel,
        )


def warn_of_erased(erased: Sequence[str], stacklevel: int) -> None:
    """Warn of the modules whose update is erased."""
    if erased:
        more = f" and {len(erased) - 3} more" if len(erased) > 3 else ""
        warnings.warn(
            f"the update of {', '.join(erased[:3])}{more} is erased (cosine below "
            f"{ERASED_COSINE}): raise density, or try another scope",
            stacklevel=stacklevel,
        )
