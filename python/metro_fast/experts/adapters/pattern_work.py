"""The work that Python's `re` may have with a pattern, counted before it is done.

`re` goes back and tries again, so that a pattern of ten characters can take years. Here all its
ways through a name are counted together: those that have reached the same place are one number, and
the count ends at a limit. What is counted is what `re` does if it finds nothing, which is the most
that it ever does; where that is hard to say, it is more.
"""

import importlib
import re
from collections.abc import Callable, Mapping
from typing import Any

_parser: Any = importlib.import_module("re._parser")

_CHARACTERS = ("ANY", "ANY_ALL", "IN", "LITERAL", "NOT_LITERAL")
"""Parts of a pattern that are one character of a name."""

Ends = dict[int, int]
"""The number of ways that lead to each position of a name."""


class TooMuchWork(Exception):
    """A pattern has more ways through a name than may be tried."""


class Work:
    """The work that may still be done for one configuration.

    Args:
        steps: The steps that `re` may take; it takes 10 to 20 million in a second.
        counts: The numbers that may be computed here, of which a second has 3 million.
    """

    def __init__(self, steps: int = 10_000_000, counts: int = 1_000_000) -> None:
        self.steps, self.counts = steps, counts

    def take(self, steps: int, counts: int = 1) -> None:
        """Note work that is done.

        Raises:
            TooMuchWork: If it is more than was left.
        """
        self.steps -= steps
        self.counts -= counts
        if self.steps < 0 or self.counts < 0:
            raise TooMuchWork


def parse(pattern: str) -> Any:
    """The tree of a pattern, as `re` has it.

    Raises:
        re.error: If it is not a pattern.
        OverflowError: If it has a count that is too large.
        RecursionError: If it is nested too deeply.
    """
    return _parser.parse(pattern)


def refused(tree: Any) -> str | None:
    """The part of a tree whose work cannot be counted, in words, or None if there is not one."""
    width = 0
    waiting = list(tree)
    while waiting:
        kind, value = waiting.pop()
        word = str(kind)
        if word in ("GROUPREF", "GROUPREF_EXISTS"):
            return "a reference to another group"
        if word == "IN":
            waiting += value
        elif word == "RANGE":
            # `re` writes ranges down character by character when it compiles.
            width += value[1] - value[0]
            if width > 65_536:
                return "ranges of more than 65,536 characters"
        waiting += [node for part in _parts(word, value) for node in part]
    return None


def count(tree: Any, name: str, work: Work) -> None:
    """Count what `re` does at most to match a name from its start.

    Args:
        tree: What `parse` returned.
        name: The name.
        work: What is left of it is changed.

    Raises:
        TooMuchWork: If it is more than may be done.
        RecursionError: If the tree is nested too deeply.

    Example:
        >>> work = Work(steps=1000)
        >>> count(parse("a*b"), "a" * 20, work)
        >>> count(parse("(a+)+b"), "a" * 20, work)
        Traceback (most recent call last):
        ...
        metro_fast.experts.adapters.pattern_work.TooMuchWork
    """
    _Count(name, work, bool(tree.state.flags & re.IGNORECASE)).sequence(tree, {0: 1})


def _parts(word: str, value: Any) -> list[Any]:
    """The trees inside of a node."""
    if word == "SUBPATTERN":
        return [value[-1]]
    if word == "BRANCH":
        return list(value[1])
    if word.endswith("_REPEAT"):
        return [value[2]]
    if word in ("ASSERT", "ASSERT_NOT"):
        return [value[1]]
    return [value] if word == "ATOMIC_GROUP" else []


class _Count:
    def __init__(self, name: str, work: Work, any_case: bool) -> None:
        self.name, self.work, self.any_case = name, work, any_case
        self.known: dict[tuple[str, int, bool], dict[str, bool]] = {}

    def sequence(self, nodes: Any, ends: Ends) -> Ends:
        for kind, value in nodes:
            if not ends:
                break
            self.work.take(sum(ends.values()), len(ends))
            ends = self._node(str(kind), value, ends)
        return ends

    def _node(self, word: str, value: Any, ends: Ends) -> Ends:
        if word == "AT":
            return self._at(str(value), ends)
        if word == "SUBPATTERN":
            before = self.any_case
            self.any_case = bool(before or value[1] & re.IGNORECASE)
            ends = self.sequence(value[-1], ends)
            self.any_case = before
            return ends
        if word == "ATOMIC_GROUP":
            return self.sequence(value, ends)
        if word == "BRANCH":
            return _sum([self.sequence(part, ends) for part in value[1]])
        if word.endswith("_REPEAT"):
            least, most, body = value
            return self._repeat(least, most, body, ends)
        if word in ("ASSERT", "ASSERT_NOT"):
            direction, body = value
            found = self._look(direction, body, ends)
            # What is not there cannot be counted from above, so that all ways go on.
            return found if word == "ASSERT" else ends
        fits = self._fits(word, value)
        return {at + 1: ways for at, ways in ends.items() if fits(at)}

    def _at(self, word: str, ends: Ends) -> Ends:
        if word in ("AT_BEGINNING", "AT_BEGINNING_STRING") and "\n" not in self.name:
            return {at: ways for at, ways in ends.items() if at == 0}
        if word in ("AT_END", "AT_END_STRING") and "\n" not in self.name:
            return {at: ways for at, ways in ends.items() if at == len(self.name)}
        return ends

    def _repeat(self, least: int, most: Any, body: Any, ends: Ends) -> Ends:
        """All numbers of repetitions; past the least one, `re` ends at one without a character."""
        found, level = [] if least else [ends], ends
        (word, value), *more = [*body, ("", None)][:2]
        if most > len(self.name) and str(word) in _CHARACTERS and not more[0][0]:
            for _ in range(least):
                level = self.sequence(body, level)
            return self._run(self._fits(str(word), value), level)
        for done in range(1, min(int(most), int(least) + len(self.name) + 1) + 1):
            self.work.take(1)
            level = self.sequence(body, level)
            if not level:
                break
            if done >= least:
                found.append(level)
        return _sum(found)

    def _run(self, fits: Callable[[int], bool], ends: Ends) -> Ends:
        """Any number of single characters."""
        found: Ends = {}
        ways, steps = 0, 0
        first = min(ends, default=len(self.name))
        for at in range(first, len(self.name) + 1):
            ways += ends.get(at, 0)
            if ways:
                found[at] = ways
                steps += ways
                ways = ways if fits(at) else 0
        self.work.take(steps, len(self.name) - first)
        return found

    def _look(self, direction: int, body: Any, ends: Ends) -> Ends:
        width = 0 if direction > 0 else body.getwidth()[0]
        return {
            at: ways
            for at, ways in ends.items()
            if at >= width and self.sequence(body, {at - width: ways})
        }

    def _fits(self, word: str, value: Any) -> Callable[[int], bool]:
        """Whether a part of a pattern fits the character at a place."""
        name, any_case = self.name, self.any_case
        key = word, value if isinstance(value, int) else id(value), any_case
        known = self.known.setdefault(key, {})

        def fits(at: int) -> bool:
            if at >= len(name):
                return False
            own = name[at]
            if own not in known:
                forms = {own, own.lower(), own.upper()} if any_case else {own}
                known[own] = any(_accepts(word, value, form) for form in forms)
            return known[own]

        return fits


def _accepts(word: str, value: Any, character: str) -> bool:
    if word in ("ANY", "ANY_ALL"):
        return True
    parts = value if word == "IN" else [("LITERAL", value)]
    negated = word == "NOT_LITERAL"
    if word == "IN" and str(value[0][0]) == "NEGATE":
        negated, parts = True, value[1:]
    return negated != any(_is(str(kind), part, character) for kind, part in parts)


def _is(word: str, value: Any, character: str) -> bool:
    if word == "LITERAL":
        return len(character) != 1 or ord(character) == value
    if word == "RANGE":
        return len(character) != 1 or bool(value[0] <= ord(character) <= value[1])
    test, negated = _CATEGORIES[str(value).removeprefix("CATEGORY_")]
    return test(character) != negated


def _word(character: str) -> bool:
    return character.isalnum() or character == "_"


_CATEGORIES: Mapping[str, tuple[Callable[[str], bool], bool]] = {
    "DIGIT": (str.isdecimal, False),
    "NOT_DIGIT": (str.isdecimal, True),
    "SPACE": (str.isspace, False),
    "NOT_SPACE": (str.isspace, True),
    "WORD": (_word, False),
    "NOT_WORD": (_word, True),
}


def _sum(all_ends: list[Ends]) -> Ends:
    total: Ends = {}
    for ends in all_ends:
        for at, ways in ends.items():
            total[at] = total.get(at, 0) + ways
    return total
