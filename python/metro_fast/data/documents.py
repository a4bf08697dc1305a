"""Reads the documents of text files one by one, from a whole file or from a range of its lines."""

import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from metro_fast._extras import require
from metro_fast._json import parse_json
from metro_fast._regular import check_regular, open_regular
from metro_fast._shown import quoted, shown
from metro_fast.data.reading import (
    ADVICE,
    READING,
    BadTextError,
    Reading,
    documents_of,
    without_mark,
)
from metro_fast.data.signatures import LONGEST, refuse_other_form
from metro_fast.errors import FormatError

PACKED = (".gz", ".zst")


def cut_lines(path: Path, piece_bytes: int) -> list[tuple[int, int]]:
    r"""Cut a text file into ranges of about `piece_bytes` bytes, each of whole lines.

    A range ends at the end of the line that contains its last byte, so the ranges depend only on
    the file and on `piece_bytes`. A compressed file is one range, because it can only be read from
    its start.

    Args:
        path: The file.
        piece_bytes: 1 or more.

    Returns:
        Starts and ends in bytes; at least one range, even for an empty file.

    Raises:
        OSError: If the file cannot be read.

    Example:
        >>> _ = Path("three.txt").write_text("one\ntwo\nthree")
        >>> cut_lines(Path("three.txt"), piece_bytes=5)
        [(0, 8), (8, 13)]
    """
    check_regular(path)
    size = path.stat().st_size
    ranges: list[tuple[int, int]] = []
    start = 0
    if not path.name.endswith(PACKED):
        with open_regular(path) as file:
            while size - start > piece_bytes:
                file.seek(start + piece_bytes - 1)
                file.readline()
                ranges.append((start, file.tell()))
                start = file.tell()
    if start < size or not ranges:
        ranges.append((start, size))
    return ranges


def cut_paragraphs(path: Path, piece_bytes: int) -> list[tuple[int, int]]:
    r"""Cut a text file as `cut_lines` does, but each range ends with a blank line.

    Args:
        path: The file.
        piece_bytes: 1 or more.

    Returns:
        Starts and ends in bytes; at least one range, even for an empty file.

    Raises:
        OSError: If the file cannot be read.

    Example:
        >>> _ = Path("paragraphs.txt").write_text("one\ntwo\n\nthree")
        >>> cut_paragraphs(Path("paragraphs.txt"), piece_bytes=5)
        [(0, 9), (9, 14)]
    """
    ranges: list[tuple[int, int]] = []
    start = 0
    for _, stop in cut_lines(path, piece_bytes):
        if stop <= start:
            continue
        with open_regular(path) as file:
            file.seek(stop)
            while (line := file.readline()) and line.strip():
                pass
            stop = file.tell()
        ranges.append((start, stop))
        start = stop
    return ranges or [(0, 0)]


def read_documents(
    path: Path,
    text_key: str,
    start: int = 0,
    stop: int | None = None,
    reading: Reading = READING,
    counts: Counter[str] | None = None,
) -> Iterator[str]:
    """The documents of a file: its lines, or as `reading` says; or values of its JSON lines.

    Blank documents are left out, and so is a byte order mark.

    Args:
        path: The file, packed if its name ends in `.gz` or `.zst`.
        text_key: Key of the text in JSON lines.
        start: Byte at which a line of an uncompressed file begins.
        stop: Byte after the end of a line; None for the end of the file.
        reading: How the file is read.
        counts: Where to count what is left out or changed.

    Raises:
        FormatError: If the file has another encoding, cannot be decompressed, or has a line of the
            wrong form; the message names the line.
        MissingExtraError: If a `.zst` is read without pyarrow.
    """
    counts = Counter() if counts is None else counts
    number, keyed = 0, is_json(path)
    try:
        with _open_text(path, start, stop, reading) as file:
            per = "line" if keyed else reading.document_per
            for number, part in documents_of(file, per):  # noqa: B007 (named in the errors)
                text: str | None = part
                if keyed and (line := without_mark(part, counts)).strip():
                    text = _text_of(line, text_key)
                if (text := reading.accept(text or "", counts)) is not None:
                    yield text
    except (UnicodeError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        number += _lines_before(path, start, reading)
        hint = f": {ADVICE}" if isinstance(error, UnicodeError) else ""
        raise FormatError(
            f"{path} is damaged at or after line {number + 1}: {error}{hint}"
        ) from error
    except BadTextError as error:
        number += _lines_before(path, start, reading)
        subject = repr(text_key) if keyed else "the text"
        raise FormatError(f"{path}, line {number}: {subject} {error}") from error
    except _WrongLineError as error:
        number += _lines_before(path, start, reading)
        raise FormatError(f"{path}, line {number}: {error}") from error
    except OSError as error:
        if error.errno is not None or not path.name.endswith(".zst"):
            raise
        raise FormatError(f"{path} is damaged at or after line {number + 1}: {error}") from error


def is_json(path: Path) -> bool:
    """Whether a file holds JSON lines, by its name."""
    return path.with_suffix("" if path.name.endswith(PACKED) else path.suffix).suffix == ".jsonl"


class _Range(io.RawIOBase):
    """A range of bytes of a file, read as if it were the whole file."""

    def __init__(self, path: Path, start: int, stop: int | None) -> None:
        self._file = open_regular(path)
        self._file.seek(start)
        self._left = (path.stat().st_size if stop is None else stop) - start

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        read = self._file.readinto(memoryview(buffer)[: self._left])
        self._left -= read
        return read

    def close(self) -> None:
        self._file.close()
        super().close()


def _open_text(path: Path, start: int, stop: int | None, reading: Reading) -> IO[str]:
    form: dict[str, Any] = {"encoding": reading.encoding, "errors": reading.errors}
    stream: Any
    check_regular(path)
    if path.name.endswith(".gz"):
        stream = gzip.open(path)  # noqa: SIM115 (the caller closes it)
    elif path.name.endswith(".zst"):
        # Python itself has zstd only from 3.14 on.
        packed = require("pyarrow", "data").input_stream(str(path), compression="zstd")
        stream = io.BufferedReader(packed)
    else:
        stream = io.BufferedReader(_Range(path, start, stop))
    try:
        if start == 0:
            refuse_other_form(path, stream.peek(LONGEST)[:LONGEST], reading.encoding)
    except BaseException:
        stream.close()
        raise
    return io.TextIOWrapper(stream, **form)


def _lines_before(path: Path, start: int, reading: Reading) -> int:
    """Number of lines before a range, counted only to name a line in an error."""
    if start == 0:
        return 0
    before = io.BufferedReader(_Range(path, 0, start))
    with io.TextIOWrapper(before, encoding=reading.encoding, errors="replace") as file:
        return sum(1 for _ in file)


class _WrongLineError(ValueError):
    """A JSON line without text."""


def _text_of(line: str, text_key: str) -> str:
    try:
        # Without the hooks of `parse_json`, which take as long again: corpora have 10^9 lines, and
        # of each only the text is kept, whose surrogates `Reading.accept` looks for.
        value = json.loads(line)
        if line.count(f'"{text_key}"') > 1:  # perhaps two texts, one of which would be lost
            value = parse_json(line, "it", not_finite=True, large=True)
    except FormatError as error:
        raise _WrongLineError(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise _WrongLineError(f"it is not JSON ({shown(str(error))})") from error
    if not isinstance(value, dict):
        raise _WrongLineError(f"expected a JSON object, found {type(value).__name__}")
    if text_key not in value:
        raise _WrongLineError(
            f"the object has no key {shown(repr(text_key))}, only "
            f"{shown(sorted(value)[:8], 200)}: give text_key"
        )
    text = value[text_key]
    if not isinstance(text, str):
        raise _WrongLineError(
            f"{quoted(text_key)} is of type {type(text).__name__}, expected a string"
        )
    return text
