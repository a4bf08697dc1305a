"""The file of a search, with one line per score, from which an interrupted search continues."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from metro_fast._json import parse_json
from metro_fast._memory import read_large
from metro_fast._shown import quoted, shown
from metro_fast.errors import FormatError, MetroFastError

FieldT = TypeVar("FieldT")


class SearchLog:
    """The rows of a search, in memory and in a file of JSON lines.

    The first line identifies the search. A last line that was cut off is dropped.

    Args:
        path: The file, created with its folder if it does not exist; None keeps the rows in memory
            only.
        about: Everything that the rows depend on; it must survive JSON unchanged.

    Attributes:
        rows: The rows from the file, and those that were appended.

    Raises:
        FormatError: If the file is not the file of a search.
        MetroFastError: If it is that of another search; the message names the difference.
        OSError: If it cannot be read or written.

    Example:
        >>> log = SearchLog("log.jsonl", {"what": "example", "seed": 0})
        >>> log.append({"score": 0.5})
        >>> SearchLog("log.jsonl", {"what": "example", "seed": 0}).rows
        [{'score': 0.5}]
    """

    def __init__(self, path: str | Path | None, about: Mapping[str, Any]) -> None:
        self.rows: list[dict[str, Any]] = []
        self._path = None if path is None else Path(path)
        if self._path is None:
            return
        content = read_large(self._path) if self._path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if not whole:
            if content and not _line(about).startswith(content):
                raise FormatError(f"{self._path} is not the file of a search: choose another file")
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.unlink(missing_ok=True)
            self._write(about)
            return
        lines = [
            parse_json(line, f"{self._path}, line {number}")
            for number, line in enumerate(whole.splitlines(), 1)
        ]
        if not all(isinstance(line, dict) for line in lines):
            raise FormatError(
                f"{self._path} has a line that is not a JSON object: remove the file or the line"
            )
        self._compare(lines[0], json.loads(_line(about)))
        self.rows = lines[1:]
        if len(whole) < len(content):
            with self._path.open("r+b") as file:
                file.truncate(len(whole))

    def append(self, row: Mapping[str, Any]) -> None:
        """Append a row, which is on the disk when this returns.

        Raises:
            OSError: If the file cannot be written.
        """
        if self._path is not None:
            self._write(row)
        self.rows.append(dict(row))

    def field(self, row: int, name: str, kind: type[FieldT]) -> FieldT:
        """A field of a row.

        Args:
            row: Index of the row.
            name: Name of the field.
            kind: The expected type.

        Raises:
            FormatError: If the field is missing or has another type.
        """
        value = self.rows[row].get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise FormatError(
                f"{self._path}, line {row + 2}: {name} is {shown(repr(value))}, "
                f"expected a {kind.__name__}"
            )
        return value

    def _write(self, row: Mapping[str, Any]) -> None:
        assert self._path is not None
        with self._path.open("ab") as file:
            file.write(_line(row))
            file.flush()
            os.fsync(file.fileno())

    def _compare(self, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
        for name in dict.fromkeys((*expected, *found)):
            if found.get(name) != expected.get(name):
                what = _difference(name, found.get(name), expected.get(name))
                raise MetroFastError(
                    f"{self._path} is the file of another search: {what}; choose another "
                    "file, or remove it"
                )


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, allow_nan=False).encode() + b"\n"


def _difference(name: str, found: Any, expected: Any) -> str:
    """The difference in words: of checksums it is enough that they do."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for inner in dict.fromkeys((*expected, *found)):
            if found.get(inner) != expected.get(inner):
                return _difference(inner, found.get(inner), expected.get(inner))
    if isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        names = [
            (one[0], two[0])
            for one, two in zip(found, expected, strict=True)
            if one != two and isinstance(one, list) and isinstance(two, list)
        ]
        if names:
            one, two = names[0]
            return (
                f"it has {shown(repr(one))} where this one has {shown(repr(two))}"
                if one != two
                else (f"{quoted(one)} has other weights now")
            )
    if _is_checksum(found) or _is_checksum(expected):
        return f"its {name} had other contents" if found else f"it has no {name}"
    return f"its {name} is {_short(found)}, that of this search is {_short(expected)}"


def _is_checksum(value: Any) -> bool:
    """Whether a value is a CRC, a SHA-256, or a list of these."""
    if isinstance(value, list):
        return bool(value) and all(map(_is_checksum, value))
    if isinstance(value, str):
        return len(value) == 64 and set(value) <= set("0123456789abcdef")
    return isinstance(value, int) and value >= 1 << 20


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
