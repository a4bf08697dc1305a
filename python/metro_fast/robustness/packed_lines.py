"""Packed JSON lines (`.jsonl.gz`), and one error for everything that can be wrong with them."""

import gzip
import json
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from metro_fast._atomic import write_atomically
from metro_fast._json import parse_json
from metro_fast._memory import read_bounded
from metro_fast.errors import FormatError

__all__ = ["read_lines", "write_lines"]


def write_lines(path: Path, lines: Iterable[dict[str, Any]]) -> Path:
    """Write objects of JSON, one per line, packed, completely or not at all.

    Args:
        path: The file.
        lines: The objects.

    Returns:
        The path.

    Raises:
        OSError: If the file cannot be written.
    """
    text = "".join(
        f"{json.dumps(line, ensure_ascii=False, separators=(',', ':'))}\n" for line in lines
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without a time in its header, the file of the same content has the same bytes.
    return write_atomically(path, gzip.compress(text.encode(), mtime=0))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read the objects of a file that `write_lines` wrote.

    Args:
        path: The file.

    Returns:
        The objects in order.

    Raises:
        FileNotFoundError: If the file is absent.
        FormatError: If it is damaged, or a line is not an object; the message names the file.
    """
    try:
        with gzip.open(path) as file:
            content = read_bounded(file, path)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise FormatError(
            f"{path} is damaged ({error}); delete the file and evaluate again"
        ) from error
    found = [
        parse_json(text, f"{path}:{number}")
        for number, text in enumerate(content.splitlines(), start=1)
    ]
    for number, line in enumerate(found, start=1):
        if not isinstance(line, dict):
            raise FormatError(f"{path}:{number} is a {type(line).__name__}, expected an object")
    return found
