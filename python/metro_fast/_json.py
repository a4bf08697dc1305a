"""JSON from files that may be damaged or hostile."""

import json
import math
import re
from typing import Any

from metro_fast._shown import shown
from metro_fast.errors import FormatError

__all__ = ["MOST_DEPTH", "MOST_DIGITS", "check_depth", "parse_json"]

MOST_DEPTH = 100
"""Most lists and objects inside of one another: far below the depth at which `repr` fails."""
MOST_DIGITS = 300
"""Most digits of an integer: each is then also a float, whose largest is below 10^309."""

_HALF = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")


def parse_json(content: bytes | str, where: object, *, not_finite: bool = False) -> Any:
    r"""Parse JSON, with one error for everything that can be wrong with it.

    Args:
        content: The text, or its bytes in UTF-8, with or without a byte order mark.
        where: The file, or the file and line, for the message.
        not_finite: Whether NaN and infinities are taken, which Python writes and JSON does not
            have.

    Returns:
        The value.

    Raises:
        FormatError: If it is not JSON or not UTF-8, an object has a key twice, a text holds half of
            a surrogate pair, lists are nested deeper than `MOST_DEPTH`, an integer has more than
            `MOST_DIGITS` digits, or a number is not finite.

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
        value = json.loads(
            text,
            object_pairs_hook=unique,
            parse_int=whole,
            parse_float=real,
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
