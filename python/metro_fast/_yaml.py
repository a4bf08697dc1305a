"""YAML from files that may be damaged or hostile: plain values alone, as YAML 1.2 reads them."""

import math
import re
from collections.abc import Collection, Iterator
from typing import Any

from metro_fast._json import MOST_DEPTH, MOST_DIGITS
from metro_fast._shown import shown
from metro_fast.errors import FormatError

__all__ = ["MOST_BYTES", "MOST_NODES", "parse_yaml"]

MOST_BYTES = 16 * 2**20
"""Most bytes of a file; all templates of promptsource together are smaller."""
MOST_NODES = 100_000
"""Most values of a file, where an alias counts as all that it stands for; 0.5 s of parsing."""

_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_REAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)")
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_TEXT = "tag:yaml.org,2002:str"


def parse_yaml(content: bytes | str, where: object, *, mappings: Collection[str] = ()) -> Any:
    """Parse one document of YAML.

    Only `true` and `false` are truth values, and dates, `yes`, `1_000` and `1:30` are texts. Every
    key is the text that is written.

    Args:
        content: The text, or its bytes in UTF-8.
        where: The file, for the message.
        mappings: Tags such as `!Template` of mappings, which are read as plain ones.

    Returns:
        Numbers, texts, truth values, None, and lists and dictionaries of these.

    Raises:
        FormatError: If it is not YAML, has several documents, a key twice or another tag, merges
            keys by `<<`, holds a number that is not finite or has more than 300 digits, or is
            larger or nested deeper than the limits.

    Example:
        >>> parse_yaml("a: [1, 2.5, 1e-4, yes, 2020-01-01]", "here")
        {'a': [1, 2.5, 0.0001, 'yes', '2020-01-01']}
    """
    import yaml

    try:
        data = content.encode() if isinstance(content, str) else content
        if len(data) > MOST_BYTES:
            raise FormatError(
                f"{where} has more than {MOST_BYTES} bytes; split it into smaller files"
            )
        text = data.decode("utf-8-sig")
    except UnicodeError as error:
        raise FormatError(f"{where} is not YAML in UTF-8: {shown(str(error))}") from error
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Builder(yaml, yaml.parse(text, loader), where, mappings).document()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f"line {mark.line + 1}: "
        problem = getattr(error, "problem", None) or str(error)
        raise FormatError(f"{where} is not YAML: {line}{shown(problem)}") from error


class _Builder:
    """Values from the events of a parser, counted as they come."""

    def __init__(
        self, yaml: Any, events: Iterator[Any], where: object, mappings: Collection[str]
    ) -> None:
        self._yaml, self._events, self._where, self._mappings = yaml, events, where, mappings
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._nodes = 0

    def document(self) -> Any:
        """The value of the only document; None of an empty file."""
        value = None
        documents = 0
        for event in self._events:
            if isinstance(event, self._yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._error(event, "a second document begins; keep only the first")
                value = self._value(next(self._events), 0)
        return value

    def _error(self, event: Any, text: str) -> FormatError:
        return FormatError(f"{self._where} is not YAML that can be taken: line "
                           f"{event.start_mark.line + 1}: {text}")  # fmt: skip

    def _count(self, event: Any, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MOST_NODES:
            raise self._error(
                event, f"it holds more than {MOST_NODES} values, aliases counted; give fewer"
            )

    def _value(self, event: Any, depth: int) -> Any:
        if isinstance(event, self._yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise self._error(
                    event, f"the alias {shown(event.anchor, 40)} stands for nothing before it"
                )
            value, nodes = self._anchors[event.anchor]
            self._count(event, nodes)
            return value
        before = self._nodes
        self._count(event, 1)
        if depth > MOST_DEPTH:
            raise self._error(event, f"it is nested more than {MOST_DEPTH} deep; give it flatter")
        if isinstance(event, self._yaml.ScalarEvent):
            value = self._scalar(event)
        elif isinstance(event, self._yaml.SequenceStartEvent):
            self._check_tag(event, ())
            value = []
            while not isinstance(inner := next(self._events), self._yaml.SequenceEndEvent):
                value.append(self._value(inner, depth + 1))
        else:
            self._check_tag(event, self._mappings)
            value = self._mapping(depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = value, self._nodes - before
        return value

    def _mapping(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(key := next(self._events), self._yaml.MappingEndEvent):
            if not isinstance(key, self._yaml.ScalarEvent):
                raise self._error(key, "a key is not a text; write it out")
            self._check_tag(key, (_TEXT,))
            if key.value == "<<" and key.implicit[0]:
                raise self._error(key, "keys are merged by <<, which is not taken; write them out")
            if key.value in found:
                raise self._error(
                    key, f"the key {shown(repr(key.value), 80)} is given twice; keep one of the two"
                )
            self._count(key, 1)
            found[self._text(key)] = self._value(next(self._events), depth + 1)
        return found

    def _check_tag(self, event: Any, known: Collection[str]) -> None:
        if event.tag not in (None, "!", *known):
            raise self._error(
                event, f"the tag {shown(event.tag, 60)} is not taken; write the value without it"
            )

    def _text(self, event: Any) -> str:
        text: str = event.value
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise self._error(event, "a text holds half of a surrogate pair") from error
        return text

    def _scalar(self, event: Any) -> Any:
        self._check_tag(event, (_TEXT,))
        text = self._text(event)
        if event.tag is not None or not event.implicit[0]:
            return text
        if text in _WORDS:
            return _WORDS[text]
        # Only what begins like a number is compared with one: patterns end early on long texts.
        if _INTEGER.fullmatch(text):
            if len(text) > MOST_DIGITS:
                raise self._error(
                    event, f"{shown(text, 40)} has more than {MOST_DIGITS} digits; give fewer"
                )
            return int(text) if text.lstrip("+-").isdigit() else int(text, 0)
        if text in (".nan", ".NaN", ".NAN") or (_REAL.fullmatch(text)):
            value = float(text.replace(".", "") if text[-1] in "fFnN" else text)
            if not math.isfinite(value):
                raise self._error(
                    event, f"the number {shown(text, 40)} is not finite; give a finite number"
                )
            return value
        return text
