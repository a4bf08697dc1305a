"""JSON from files that may be damaged or hostile."""

import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from metro_fast._memory import VARIABLE, decoded_limit
from metro_fast._regular import open_regular
from metro_fast._shown import shown
from metro_fast.errors import FormatError

__all__ = ["MOST_BYTES", "MOST_DEPTH", "MOST_DIGITS", "check_depth", "json_lines", "parse_json"]

MOST_BYTES = 16 * 2**20
"""Most bytes of a text that is not large, as of a YAML file."""
MOST_DEPTH = 100
"""Most lists and objects inside of one another: far below the depth at which `repr` fails."""
MOST_DIGITS = 300
"""Most digits of an integer: each is then also a float, whose largest is below 10^309."""

_BYTES_OF_VALUE = 16
"""A text of as many bytes as the limit may hold a value for each 16 of them. Lists of lists take
64 bytes of memory for each 3 of the text, so that 16 MiB would become 360 MB; with this, 100 MB."""
_LARGE = 32
"""Bytes of memory for each character of a large text."""
_CHARACTERS_OF_VALUE = 4
"""Least characters of a large text for each of its values: FewRel has 7, and a bomb 2 or 3."""

_LONG = re.compile(f"[0-9-]{{{MOST_DIGITS + 1}}}")
_EXPONENT = re.compile(r"[0-9.][eE]\+?[0-9]{2}")
"""Without both, every integer is short and every number finite: it has at most 300 digits, e9."""
_HALF = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")


def parse_json(
    content: bytes | str, where: object, *, not_finite: bool = False, large: bool = False
) -> Any:
    r"""Parse JSON, with one error for everything that can be wrong with it.

    Args:
        content: The text, or its bytes in UTF-8, with or without a byte order mark.
        where: The file, or the file and line, for the message.
        not_finite: Whether NaN and infinities are taken, which Python writes and JSON does not
            have.
        large: Whether it may be as large as METRO_FAST_MAX_DECODED_BYTES, or without it the free
            memory, has room for: saved results, and files that other programs write. By default
            it has at most `MOST_BYTES`, and a comma or bracket for each 16 of them.

    Returns:
        The value.

    Raises:
        FormatError: If it is too large, is not JSON or not UTF-8, an object has a key twice, a text
            holds half of a surrogate pair, lists are nested deeper than `MOST_DEPTH`, an integer
            has more than `MOST_DIGITS` digits, or a number is not finite.

    Example:
        >>> parse_json("[1]", "here"), parse_json(b'{"a": null}', "here")
        ([1], {'a': None})
    """

    def whole(text: str) -> int:
        if len(text) > MOST_DIGITS:
            raise FormatError(
                f"{where}: the integer {shown(text, 40)} has {len(text)} characters; give at most "
                f"{MOST_DIGITS} digits"
            )
        return int(text)

    def real(text: str) -> float:
        value = float(text)
        if not (not_finite or math.isfinite(value)):
            raise FormatError(
                f"{where}: the number {shown(text, 40)} is not finite; give a finite number"
            )
        return value

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise FormatError(
                f"{where}: the key {shown(repr(twice), 80)} is given twice in one object; keep one "
                "of the two"
            )
        return found

    try:
        text = content if isinstance(content, str) else content.decode("utf-8-sig")
        _check_size(text, where, large)
        value = json.loads(
            text,
            object_pairs_hook=unique,
            # Both are called for each number, which takes three times as long.
            parse_int=whole if _LONG.search(text) else None,
            parse_float=real if _LONG.search(text) or _EXPONENT.search(text) else None,
            parse_constant=real,
        )
    except FormatError:
        raise
    except RecursionError as error:
        raise FormatError(f"{where}: not JSON that is nested at most {MOST_DEPTH} deep") from error
    except ValueError as error:
        raise FormatError(f"{where}: not JSON ({shown(str(error))})") from error
    check_depth(value, where)
    if _HALF.search(text):
        _check_texts(value, where)
    return value


def json_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file of JSON lines with their numbers from 1, one at a time in memory.

    Raises:
        FormatError: If a line has more than `MOST_BYTES`.
        OSError: If it cannot be read.
    """
    with open_regular(path) as file:
        number = 0
        while line := file.readline(MOST_BYTES + 2):
            number += 1
            if len(line) > MOST_BYTES + 1:
                raise FormatError(
                    f"{path}:{number}: the line has more than {MOST_BYTES:,} bytes; give one "
                    "object on each line"
                )
            yield number, line.rstrip(b"\r\n")


def _check_size(text: str, where: object, large: bool) -> None:
    """Refuse a text whose values would take too much memory.

    Raises:
        FormatError: If they would.
    """
    most = max(MOST_BYTES, decoded_limit() // _LARGE) if large else MOST_BYTES
    advice = f"if you trust it and have the memory, set {VARIABLE}" if large else "split it"
    if len(text) > most:
        raise FormatError(
            f"{where}: it has {len(text):,} characters, expected at most {most:,}: {advice}"
        )
    if large and not os.environ.get(VARIABLE):
        most = max(MOST_BYTES, len(text) * _BYTES_OF_VALUE // _CHARACTERS_OF_VALUE)
    values = most // _BYTES_OF_VALUE
    # Those within its texts are counted too: prose has one for 80 characters.
    if len(text) > values and (found := sum(map(text.count, ",[{"))) > values:
        raise FormatError(
            f"{where}: it holds {found:,} commas and brackets, expected at most {values:,}: "
            f"{advice}"
        )


def check_depth(value: Any, where: object) -> None:
    """Refuse lists and objects that are nested deeper than `MOST_DEPTH`.

    Raises:
        FormatError: If they are.
    """
    level = [value] if isinstance(value, list | dict) else []
    for _ in range(MOST_DEPTH):
        if not level:
            return
        level = [
            inner
            for outer in level
            for inner in (outer if isinstance(outer, list) else outer.values())
            if isinstance(inner, list | dict)
        ]
    if level:
        raise FormatError(f"{where}: it is nested more than {MOST_DEPTH} deep; give it flatter")


def _check_texts(value: Any, where: object) -> None:
    """Refuse half of a surrogate pair, which no file and no tokenizer takes."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise FormatError(
            f"{where}: a text holds half of a surrogate pair ({error.reason}); give whole "
            "characters"
        ) from error
