"""Documents of text files, one at a time."""

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from metro_fast.errors import FormatError, MetroFastError

_SUFFIXES = (".jsonl", ".txt", ".jsonl.gz", ".txt.gz")


def find_files(inputs: str | Path | Sequence[str | Path]) -> list[Path]:
    """The text files that inputs name: files as given, folders as their files sorted by name.

    Raises:
        FileNotFoundError: If a file or folder does not exist.
        MetroFastError: If there is no file, or one of another type.
    """
    listed = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    files: list[Path] = []
    for path in map(Path, listed):
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if file.name.endswith(_SUFFIXES))
            if not found:
                raise MetroFastError(f"{path} holds no file that ends in {', '.join(_SUFFIXES)}")
            files += found
        else:
            if not path.name.endswith(_SUFFIXES):
                raise MetroFastError(f"{path} does not end in one of {', '.join(_SUFFIXES)}")
            path.stat()
            files.append(path)
    if not files:
        raise MetroFastError("inputs names no file, expected at least one")
    return files


def read_documents(path: Path, text_key: str) -> Iterator[str]:
    """The documents of a file: a line of text each, or the value of `text_key` of a JSON line.

    Blank lines and blank texts are passed over.

    Args:
        path: File in UTF-8, gzipped if its name ends in `.gz`.
        text_key: Key of the text in JSON lines.

    Raises:
        FormatError: If the file is not UTF-8, not gzip, or a line is not what it should be; the
            message names the line.
    """
    is_json = path.name.removesuffix(".gz").endswith(".jsonl")
    opener = gzip.open if path.name.endswith(".gz") else open
    number = 0
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):  # noqa: B007 (named in the errors)
                text = line.rstrip("\r\n")
                if is_json and text.strip():
                    text = _text_of(text, text_key)
                if text.strip():
                    yield text
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise FormatError(f"{path} is damaged at or after line {number + 1}: {error}") from error
    except _WrongLineError as error:
        raise FormatError(f"{path}, line {number}: {error}") from error


class _WrongLineError(ValueError):
    """A JSON line without text."""


def _text_of(line: str, text_key: str) -> str:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _WrongLineError(f"it is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise _WrongLineError(f"expected a JSON object, found {type(value).__name__}")
    if text_key not in value:
        raise _WrongLineError(f"no key {text_key!r}, only {sorted(value)[:8]}: give text_key")
    text = value[text_key]
    if not isinstance(text, str):
        raise _WrongLineError(f"{text_key!r} is of type {type(text).__name__}, expected a string")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _WrongLineError(f"{text_key!r} holds half of a surrogate pair ({error})") from error
    return text
