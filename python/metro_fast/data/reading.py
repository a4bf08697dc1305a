"""How text files become documents, and which texts are refused, skipped or changed."""

import codecs
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from typing import IO

from metro_fast._memory import check_decoded, decoded_limit
from metro_fast._shown import quoted
from metro_fast.errors import MetroFastError

CHOICES = {
    "document_per": ("line", "file", "blank-line"),
    "on_bad_text": ("error", "skip", "replace"),
}
# Names of counts. Nothing is left out in silence, so each has words in the last line.
BLANK, BAD, REPLACED, BYTE_MARKS = "blank", "undecodable", "replaced", "byte_order_marks"

# In these encodings no character of several bytes holds the byte of a line's end.
_LINES = re.compile(
    r"(ascii|utf-8(-sig)?|iso8859-\w+|koi8-\w|mac-\w+|cp\w+|gb\w+|big5\w*|shift_\w+)"
)
_MARK = "\ufeff"
_SURROGATE = re.compile("[\ud800-\udfff]")
ADVICE = "give on_bad_text='skip' or 'replace' (--on-bad-text), or the encoding"
_KEEP = "metro_fast.keep_bad"


def _keep_bad(error: UnicodeError) -> tuple[str, int]:
    """Leave half of a surrogate pair in the place of bytes, as no encoding can hold one."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\udc00", error.end


codecs.register_error(_KEEP, _keep_bad)


@dataclass(frozen=True)
class Reading:
    """How inputs are read.

    Attributes:
        document_per: What a document of a `.txt` is: a `"line"`, the `"file"`, or what stands
            between blank lines (`"blank-line"`).
        encoding: Encoding of `.txt` and `.jsonl` files.
        on_bad_text: Whether a text that its encoding cannot hold is an `"error"`, is left out
            (`"skip"`), or has U+FFFD in the place of the bad bytes (`"replace"`).

    Raises:
        MetroFastError: If a value is outside its domain.
        TypeError: If a value is not a string.
    """

    document_per: str = "line"
    encoding: str = "utf-8"
    on_bad_text: str = "error"

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, str):
                raise TypeError(f"{field.name} is a {type(value).__name__}, expected a string")
            if value not in CHOICES.get(field.name, (value,)):
                known = ", ".join(CHOICES[field.name])
                raise MetroFastError(f"{field.name} is {quoted(value)}, expected one of {known}")
        try:
            "\n".encode(self.encoding)
        except LookupError as error:  # this is also raised for rot13 and base64
            raise MetroFastError(
                f"encoding is {quoted(self.encoding)}, expected a text encoding that Python knows, "
                "such as utf-8, latin-1, cp1252 or utf-16"
            ) from error

    @property
    def errors(self) -> str:
        """How Python's decoders treat bad bytes."""
        return "strict" if self.on_bad_text == "error" else _KEEP

    @property
    def has_byte_lines(self) -> bool:
        r"""Whether a byte `\n` always ends a line, so that a file can be cut behind it."""
        name = codecs.lookup(self.encoding).name
        return bool(_LINES.fullmatch(name)) and "\n".encode(self.encoding) == b"\n"

    def accept(self, text: str, counts: Counter[str]) -> str | None:
        """A text as it is tokenized, or None if it is left out, which is counted.

        A byte order mark in front is not part of a text.

        Raises:
            BadTextError: If UTF-8 cannot hold the text, and `on_bad_text` is `"error"`.
        """
        text = without_mark(text, counts)
        if not text.strip():
            counts[BLANK] += 1
            return None
        bad = None if text.isascii() else _SURROGATE.search(text)
        if bad is None:
            return text
        if self.on_bad_text == "error":
            raise BadTextError(
                f"holds half of a surrogate pair (character {bad.start()}), which UTF-8 cannot "
                f"hold: {ADVICE}"
            )
        if self.on_bad_text == "skip":
            counts[BAD] += 1
            return None
        counts[REPLACED] += 1
        return _SURROGATE.sub("\ufffd", text)


READING = Reading()
_OFTEN = 1 << 24
"""Characters of a document below which the memory is not asked for: it takes 50 microseconds."""
_BYTES_OF_CHARACTER = 8
"""A character takes up to 4 bytes, and each document is also held in UTF-8."""


class BadTextError(ValueError):
    """A text that UTF-8 cannot hold; its reader puts its place in front of the message."""


def without_mark(text: str, counts: Counter[str]) -> str:
    """A text or line without the byte order marks in front of it, which are counted."""
    if not text.startswith(_MARK):
        return text
    bare = text.lstrip(_MARK)
    counts[BYTE_MARKS] += len(text) - len(bare)
    return bare


def _parts(read: Callable[[int], str]) -> Iterator[str]:
    """Each part that `read` gives: a packed file of 10 MB may hold one line of 10 GB.

    Raises:
        MetroFastError: If a part is larger than memory has room for.
    """
    most = decoded_limit() // _BYTES_OF_CHARACTER
    while part := read(most + 1):
        if len(part) > most:
            check_decoded(len(part) * _BYTES_OF_CHARACTER, "a document of the corpus")
        yield part


def documents_of(file: IO[str], document_per: str) -> Iterable[tuple[int, str]]:
    """The documents of a text file, and the number of the first line of each, from 1."""
    if document_per == "file":
        yield 1, next(_parts(file.read), "").rstrip("\n")
        return
    if document_per == "line":
        for number, line in enumerate(_parts(file.readline), start=1):
            yield number, line.rstrip("\r\n")
        return
    held: list[str] = []
    number = size = 0
    for number, line in enumerate(_parts(file.readline), start=1):
        if line.lstrip(_MARK).strip():
            held.append(line)
            size += len(line)
            if size > _OFTEN:
                check_decoded(size * _BYTES_OF_CHARACTER, "a document of the corpus")
        elif held:
            yield number - len(held), "".join(held).rstrip("\n")
            held.clear()
            size = 0
    if held:
        yield number + 1 - len(held), "".join(held).rstrip("\n")
