"""The regular expressions of adapter_config.json, as PEFT applies them to names of modules."""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from metro_fast._shown import shown
from metro_fast.errors import FormatError
from metro_fast.experts.adapters.pattern_work import TooMuchWork, Work, count, parse, refused

MOST_CHARACTERS = 65_536
"""Most characters of all patterns of a field: a list of a thousand modules, joined by `|`."""

MOST_PATTERNS = 256
"""Most patterns of a field that are more than a name: `re` keeps 512 compiled ones, and PEFT would
compile the others again for each module."""

_FRAMES = {
    "rank_pattern": r"(.*\.)?({})$",
    "alpha_pattern": r"(.*\.)?({})$",
    "target_modules": "{}",
    "exclude_modules": "{}",
    "feedforward_modules": "{}",
    "layers_pattern": r"(?:^|.*?\.){}\.(?P<idx>\d+)\.",
    "modules_to_save": r"(^|.*\.){}($|\..*)",
}
"""The text that PEFT 0.21 puts around the pattern of a field (peft.tuners.tuners_utils and
peft.utils.other)."""

_STEPS_OF_A_NAME = 10
"""The cost of a comparison with a name: 0.3 µs here, as long as 10 steps of `re` take at most."""

_NAME = re.compile(r"[\w./-]+")
"""A name of a module. Its dots stand for any character, and nothing in it for several."""


class _Pattern(NamedTuple):
    """A pattern inside of what PEFT puts around it."""

    compiled: re.Pattern[str]
    tree: Any


class Patterns:
    r"""The patterns of one field, each of which is a name or an expression whose work is counted.

    Args:
        field: The field that they are from.
        keys: The patterns.
        work: What may be done to match all of them; a part of it is used up by each match.

    Raises:
        FormatError: If one is not a pattern, is too long, or has a part whose work is unknown.

    Example:
        >>> Patterns("rank_pattern", ["q", r"layers\.[01]\..*"]).first("model.layers.1.v")
        'layers\\.[01]\\..*'
    """

    def __init__(self, field: str, keys: Iterable[str], work: Work | None = None) -> None:
        self.field, self.work = field, work or Work()
        keys = list(keys)
        own = [key for key in keys if not _NAME.fullmatch(key)]
        if sum(map(len, own)) > MOST_CHARACTERS or len(own) > MOST_PATTERNS:
            raise FormatError(
                f"{field} has {len(own):,} patterns of {sum(map(len, own)):,} characters, expected "
                f"at most {MOST_PATTERNS} of {MOST_CHARACTERS:,}"
            )
        self.keys: dict[str, _Pattern | None] = dict.fromkeys(keys)
        self.keys |= {key: _compiled(field, key) for key in own}

    @property
    def counted(self) -> bool:
        """Whether one of them is more than a name."""
        return any(self.keys.values())

    def first(self, module: str) -> str | None:
        """The first pattern that fits a module, or None.

        Raises:
            FormatError: If the patterns would take too long.
        """
        for key, pattern in self.keys.items():
            if pattern is None:
                self._count(key, module, None)
                if self.field.endswith("_pattern") and _ends_with(module, key):
                    return key
            else:
                self._count(key, module, pattern.tree)
                if pattern.compiled.match(module):
                    return key
        return None

    def count(self, module: str, times: int = 1) -> None:
        """Count what PEFT does to match all patterns with a number of modules like this one.

        Raises:
            FormatError: If that would take too long.
        """
        before = self.work.steps
        for key, pattern in self.keys.items():
            self._count(key, module, pattern and pattern.tree)
        self.work.steps -= (times - 1) * (before - self.work.steps)

    def _count(self, key: str, module: str, tree: Any) -> None:
        try:
            if tree is None:
                self.work.take(_STEPS_OF_A_NAME, 0)
            else:
                count(tree, module, self.work)
        except (TooMuchWork, RecursionError):
            raise FormatError(
                f"{self.field} has {shown(repr(key[:500]))}, a pattern that takes too long on "
                f"{shown(repr(module))}: write one with fewer repetitions (* and +)"
            ) from None


@lru_cache(maxsize=4 * MOST_PATTERNS)
def _compiled(field: str, key: str) -> _Pattern:
    try:
        problem = refused(parse(key))  # alone first, so that it cannot end the group around it
        if problem is None:
            whole = _FRAMES[field].format(key)
            return _Pattern(re.compile(whole), parse(whole))
    except (re.error, OverflowError) as error:
        problem = f"not a pattern: {error}"
    except RecursionError:
        problem = "which is nested too deeply"
    else:
        problem = f"with {problem}, and such patterns can take too long"
    raise FormatError(f"{field} has {shown(repr(key[:500]))}, {problem}")


def _ends_with(module: str, key: str) -> bool:
    r"""Whether `(.*\.)?(key)$` matches, for a key that is a name."""
    start = len(module) - len(key)
    if start < 0 or (start and module[start - 1] != "."):
        return False
    if "\n" in module:
        return bool(re.match(rf"(.*\.)?({key})$", module))
    return all(ours in (".", theirs) for ours, theirs in zip(key, module[start:], strict=True))
